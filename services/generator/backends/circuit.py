"""A circuit breaker of one back end, which gets no images while it is down.

    closed ──unreachable or denied, or N transient errors in a row──▶ open ──it answers again──▶ closed

Without it, every queued image would use up its attempts on a dead service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from common.domain.errors import Denied, InferenceError, Transient, Unreachable
from common.runtime import metrics

log = logging.getLogger(__name__)

MAX_PAUSE_S = 30.0  # between two requests to a service that does not answer


class Pausable(Protocol):
    """What takes work for the service."""

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...


class Circuit:
    """Counts consecutive failures; the task `run` keeps images from the service, and asks it again.

    `name` is that of the service in logs and metrics.

    `ask` raises an InferenceError as long as the service is down.

    A service that denies its orders may answer all the same: so the pauses become longer until an image is painted.
    """

    def __init__(self, *, failures: int, pause_s: float, ask: Callable[[], Awaitable[object]], name: str) -> None:
        self._limit = failures
        self._first_pause_s = pause_s
        self._pause_s = pause_s
        self._ask = ask
        self._name = name
        self._consecutive_failures = 0
        self._opened = asyncio.Event()
        self._reason = ""
        self._logged_reason = ""

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    @property
    def pause_s(self) -> float:
        """How long it waits between two requests to the service; it doubles while the service is down."""
        return self._pause_s

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

    async def run(self, consumer: Pausable) -> None:
        """Open and close the circuit while the consumer runs; never returns."""
        state = metrics.circuit_open.labels(self._name)
        state.set(0)
        while True:
            await self._opened.wait()
            state.set(1)
            self._log_reason()
            await consumer.pause()
            await self._wait_until_reachable()
            self._consecutive_failures = 0
            self._opened.clear()
            state.set(0)
            log.info("the inference service %s answers: it gets images again", self._name)
            await consumer.resume()

    def _log_reason(self) -> None:
        """Log the reason once until an image is painted: each opening of the circuit would repeat it."""
        if self._reason != self._logged_reason:
            log.warning(
                "the inference service %s is down: it gets no work until it answers: %s", self._name, self._reason
            )
        self._logged_reason = self._reason

    async def _wait_until_reachable(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
            try:
                await self._ask()
            except InferenceError as error:
                log.debug("the inference service %s is still down: %s", self._name, error.detail)
            else:
                return
