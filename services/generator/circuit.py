"""A circuit breaker that stops taking work while the inference service is down.

    closed ──unreachable or denied, or N transient errors in a row──▶ open ──it answers again──▶ closed

Without it, every queued image would use up its attempts on a dead service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from common.bus.port import Consumer
from common.domain.errors import Denied, InferenceError, Transient, Unreachable
from common.runtime import metrics

log = logging.getLogger(__name__)

MAX_PAUSE_S = 30.0  # between two requests to a service that does not answer


class Circuit:
    """Counts consecutive failures; the task `run` pauses the consumer and asks the service again.

    `ask` raises an InferenceError as long as the service is down.

    A service that denies its orders may answer all the same: so the pauses become longer until an image is painted.
    """

    def __init__(self, *, failures: int, pause_s: float, ask: Callable[[], Awaitable[object]]) -> None:
        self._limit = failures
        self._first_pause_s = pause_s
        self._pause_s = pause_s
        self._ask = ask
        self._consecutive_failures = 0
        self._opened = asyncio.Event()
        self._reason = ""
        self._logged_reason = ""

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def record_success(self) -> None:
        self._consecutive_failures = 0
        self._pause_s = self._first_pause_s
        self._logged_reason = ""

    def record_failure(self, error: InferenceError) -> None:
        """Count an error that may mean an outage; a service that rejects a request, or paints it badly, is not down."""
        if isinstance(error, Unreachable | Denied):
            self._consecutive_failures = self._limit
        elif isinstance(error, Transient):
            self._consecutive_failures += 1
        else:
            self._consecutive_failures = 0
        if self._consecutive_failures >= self._limit:
            self._reason = error.reason if isinstance(error, Denied) else error.detail
            self._opened.set()

    async def run(self, consumer: Consumer) -> None:
        """Open and close the circuit while the consumer runs; never returns."""
        while True:
            await self._opened.wait()
            metrics.circuit_open.set(1)
            self._log_reason()
            await consumer.pause()
            await self._wait_until_reachable()
            self._consecutive_failures = 0
            self._opened.clear()
            metrics.circuit_open.set(0)
            log.info("the inference service answers: taking work again")
            await consumer.resume()

    def _log_reason(self) -> None:
        """Log the reason once until an image is painted: each opening of the circuit would repeat it."""
        if self._reason != self._logged_reason:
            log.warning("the inference service is down: no work is taken until it answers: %s", self._reason)
        self._logged_reason = self._reason

    async def _wait_until_reachable(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
            try:
                await self._ask()
            except InferenceError as error:
                log.debug("the inference service is still down: %s", error.detail)
            else:
                return
