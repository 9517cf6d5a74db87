"""Relays an attempt's progress: the newest step only, at most four times a second, never holding up the painting.

A preview goes along with a step: the newest, at most once a second, made anew so that a browser gets no foreign bytes.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode

from common.application.outbox import Outbox
from common.domain.errors import BadImage, Unavailable
from common.domain.images import Image
from common.runtime.clock import Clock
from services.generator.pictures import preview_of

log = logging.getLogger(__name__)

MAX_STEPS = 1_000_000  # beyond any order, and few enough to reckon with
PACE_S = 0.25  # what an eye follows; a 1,000-step job must not flood the log
PREVIEW_PACE_S = 1.0  # a preview is some ten times as large as all else that progress says
MAX_PREVIEW_BYTES = 16_000  # twice what a busy picture takes; docs/messages.md says what that adds up to


class ProgressTeller:
    """`step` is called for each step of the inference service; `run` publishes, in a task of its own."""

    def __init__(self, image: Image, outbox: Outbox, clock: Clock) -> None:
        self._image = image
        self._outbox = outbox
        self._clock = clock
        self._newest: tuple[int, int] | None = None
        self._news = asyncio.Event()
        self._first: tuple[int, float] | None = None
        self._unseen: bytes | None = None  # the newest preview, unchecked
        self._next_preview_s = clock.monotonic()

    def step(self, step: int, steps: int) -> None:
        """Steps done of steps in all; what makes no sense is passed over."""
        if 0 < step <= steps <= MAX_STEPS:
            self._newest = (step, steps)
            self._news.set()

    def preview(self, content: bytes) -> None:
        """What the picture looks like so far, unchecked; told with the next step for which it is time."""
        self._unseen = content

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._newest is not None:
                await self._tell(*self._newest)
            await asyncio.sleep(PACE_S)

    async def _tell(self, step: int, steps: int) -> None:
        left_s = self._left(step, steps)
        preview = await self._preview()
        try:
            await self._outbox.publish_progress(
                self._image, step=step, steps=steps, seconds_left=left_s, preview=preview
            )
        except Unavailable as error:
            log.debug("progress not told: %s", error)

    async def _preview(self) -> str | None:
        """The newest preview as a data URL, where there is one and it is time; one that is bad is passed over."""
        now_s = self._clock.monotonic()
        content = self._unseen
        if content is None or now_s < self._next_preview_s:
            return None
        self._unseen, self._next_preview_s = None, now_s + PREVIEW_PACE_S
        try:
            small = await asyncio.to_thread(preview_of, content, max_bytes=MAX_PREVIEW_BYTES)
        except BadImage as error:
            log.debug("preview passed over: %s", error.detail)
        except Exception:  # whatever a decoder stumbles over, the picture itself goes on
            log.debug("preview passed over", exc_info=True)
        else:
            return f"data:image/webp;base64,{b64encode(small).decode()}"
        return None

    def _left(self, step: int, steps: int) -> float | None:
        """Seconds left at the pace since the first step seen; the first one alone tells no pace."""
        now_s = self._clock.monotonic()
        if self._first is None or step <= self._first[0]:
            self._first = (step, now_s)
            return None
        first_step, first_s = self._first
        return round((now_s - first_s) / (step - first_step) * (steps - step), 1)
