"""Stops taking work while the inference service is down, so that a dead service does not burn the queue's attempts.

closed ──unreachable, or N transient errors in a row──▶ open ──it answers again──▶ closed
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from common.bus.port import Consumer
from common.domain.errors import InferenceError, Transient, Unreachable
from common.runtime import metrics

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 30.0  # between two questions to a service that stays silent


class Circuit:
    """Counts failures in a row; `run` is the task that pauses the consumer and tries the service again."""

    def __init__(self, *, failures: int, pause_s: float, reachable: Callable[[], Awaitable[bool]]) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._reachable = reachable
        self._in_a_row = 0
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self, error: InferenceError) -> None:
        """One answer was a failure; a service that refuses an order, or paints it badly, is not down."""
        if isinstance(error, Unreachable):
            self._in_a_row = self._limit
        elif isinstance(error, Transient):
            self._in_a_row += 1
        else:
            self._in_a_row = 0
        if self._in_a_row >= self._limit:
            self._opened.set()

    async def run(self, consumer: Consumer) -> None:
        """Open and close for as long as the consumer works; never returns."""
        while True:
            await self._opened.wait()
            metrics.circuit_open.set(1)
            log.warning("the inference service is down: no work is taken until it answers")
            await consumer.pause()
            await self._wait_until_reachable()
            self._in_a_row = 0
            self._opened.clear()
            metrics.circuit_open.set(0)
            log.info("the inference service answers: taking work again")
            await consumer.resume()

    async def _wait_until_reachable(self) -> None:
        pause_s = self._pause_s
        while True:
            await asyncio.sleep(pause_s)
            if await self._reachable():
                return
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
