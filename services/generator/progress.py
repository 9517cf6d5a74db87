"""Relays an attempt's progress: the newest step only, at most four times a second, never holding up the painting."""

from __future__ import annotations

import asyncio
import logging

from common.clock import Clock
from common.errors import Unavailable
from common.images import Image
from common.outbox import Outbox

log = logging.getLogger(__name__)

PACE_S = 0.25  # what an eye follows; a 1,000-step job must not flood the log


class ProgressTeller:
    """`step` is called for each step of the inference service; `run` publishes, in a task of its own."""

    def __init__(self, image: Image, outbox: Outbox, clock: Clock) -> None:
        self._image = image
        self._outbox = outbox
        self._clock = clock
        self._newest: tuple[int, int] | None = None
        self._news = asyncio.Event()
        self._first: tuple[int, float] | None = None

    def step(self, step: int, steps: int) -> None:
        """Steps done of steps in all; what makes no sense is passed over."""
        if 0 < step <= steps:
            self._newest = (step, steps)
            self._news.set()

    def close(self) -> None:
        """The picture is there: what is not told by now is old."""
        self._newest = None

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._newest is not None:
                await self._tell(*self._newest)
            await asyncio.sleep(PACE_S)

    async def _tell(self, step: int, steps: int) -> None:
        event = self._outbox.progress(self._image, step=step, steps=steps, seconds_left=self._left(step, steps))
        try:
            await self._outbox.bus.publish(event)
        except Unavailable as error:
            log.debug("progress not told: %s", error)

    def _left(self, step: int, steps: int) -> float | None:
        """Seconds left at the pace since the first step seen; the first one alone tells no pace."""
        now_s = self._clock.monotonic()
        if self._first is None or step <= self._first[0]:
            self._first = (step, now_s)
            return None
        first_step, first_s = self._first
        return round((now_s - first_s) / (step - first_step) * (steps - step), 1)
