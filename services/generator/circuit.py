"""A circuit breaker that stops taking work while the inference service is down.

    closed ──unreachable, or N transient errors in a row──▶ open ──it answers again──▶ closed

Without it, every queued image would use up its attempts on a dead service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from common.bus.port import Consumer
from common.domain.errors import InferenceError, Transient, Unreachable
from common.runtime import metrics

log = logging.getLogger(__name__)

MAX_PAUSE_S = 30.0  # between two requests to a service that does not answer


class Circuit:
    """Counts consecutive failures; the task `run` pauses the consumer and tries the service again."""

    def __init__(self, *, failures: int, pause_s: float, is_reachable: Callable[[], Awaitable[bool]]) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._is_reachable = is_reachable
        self._consecutive_failures = 0
        self._opened = asyncio.Event()

    def record_success(self) -> None:
        self._consecutive_failures = 0

    def record_failure(self, error: InferenceError) -> None:
        """Count an error that may mean an outage; a service that rejects a request, or paints it badly, is not down."""
        if isinstance(error, Unreachable):
            self._consecutive_failures = self._limit
        elif isinstance(error, Transient):
            self._consecutive_failures += 1
        else:
            self._consecutive_failures = 0
        if self._consecutive_failures >= self._limit:
            self._opened.set()

    async def run(self, consumer: Consumer) -> None:
        """Open and close the circuit while the consumer runs; never returns."""
        while True:
            await self._opened.wait()
            metrics.circuit_open.set(1)
            log.warning("the inference service is down: no work is taken until it answers")
            await consumer.pause()
            await self._wait_until_reachable()
            self._consecutive_failures = 0
            self._opened.clear()
            metrics.circuit_open.set(0)
            log.info("the inference service answers: taking work again")
            await consumer.resume()

    async def _wait_until_reachable(self) -> None:
        pause_s = self._pause_s
        while True:
            await asyncio.sleep(pause_s)
            if await self._is_reachable():
                return
            pause_s = min(pause_s * 2, MAX_PAUSE_S)
