"""The gate between the work queue and the back ends: it takes as much work as they can paint now.

all circuits open ──▶ the consumer is paused
some closed       ──▶ it takes as many images at once as the closed ones have slots
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from common.bus.port import Consumer
from services.generator.backends.backends import Backends

log = logging.getLogger(__name__)


class Gate:
    """`run` is its task, and each circuit pauses and resumes it."""

    def __init__(self, backends: Backends, consumer: Consumer, *, limit: int, on_circuit: Callable[[], None]) -> None:
        self._backends = backends
        self._consumer = consumer
        self._lock = asyncio.Lock()
        self._on_circuit = on_circuit
        self._limit = limit  # that of the consumer

    async def pause(self) -> None:
        """A circuit has opened."""
        self._on_circuit()
        await self._apply()

    async def resume(self) -> None:
        """A circuit has closed."""
        self._on_circuit()
        await self._apply()

    async def run(self) -> None:
        """Follow the changes of the back ends; never returns."""
        while True:
            await self._backends.changed.wait()
            self._backends.changed.clear()
            await self._apply()

    async def _apply(self) -> None:
        self._backends.assign()
        async with self._lock:
            limit = self._backends.places
            if not limit:
                await self._consumer.pause()
                return
            if limit != self._limit:
                log.info("taking at most %d images at once", limit)
                self._limit = limit
                await self._consumer.limit(limit)
            await self._consumer.resume()
