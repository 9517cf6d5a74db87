"""Publisher of an attempt's progress: the newest step only, at most four times a second.

Publishing never delays the painting. The newest preview goes with a step, at most once a second, and is encoded
again, so that a browser gets none of the server's own bytes.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode

from common.application.outbox import Outbox
from common.domain.errors import BadImage, Unavailable
from common.domain.images import Image
from common.runtime.clock import Clock
from services.generator.pictures import make_preview

log = logging.getLogger(__name__)

MAX_STEPS = 1_000_000  # far more than a request may have, and few enough to calculate with
PACE_S = 0.25  # fast enough to look smooth; a job of 1,000 steps must not flood the log
PREVIEW_PACE_S = 1.0  # a preview is about ten times as large as the rest of a progress event
MAX_PREVIEW_BYTES = 16_000  # twice what a detailed picture takes; docs/messages.md has the sum


class ProgressPublisher:
    """The inference back end calls `on_progress` and `on_preview`; `run` publishes, in a task of its own."""

    def __init__(self, image: Image, outbox: Outbox, clock: Clock) -> None:
        self._image = image
        self._outbox = outbox
        self._clock = clock
        self._newest: tuple[int, int] | None = None
        self._has_news = asyncio.Event()
        self._first: tuple[int, float] | None = None
        self._newest_preview: bytes | None = None  # not checked
        self._has_failed = False
        self._next_preview_s = clock.monotonic()

    def on_progress(self, step: int, steps: int) -> None:
        """Note the number of steps done and the number of all steps; implausible values are ignored."""
        if 0 < step <= steps <= MAX_STEPS:
            self._newest = (step, steps)
            self._has_news.set()

    def on_preview(self, content: bytes) -> None:
        """Note a preview, not checked; it is published with a later step."""
        self._newest_preview = content

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            if self._newest is not None:
                await self._try_publish(*self._newest)
            await asyncio.sleep(PACE_S)

    async def _try_publish(self, step: int, steps: int) -> None:
        try:
            await self._publish(step, steps)
        except Unavailable as error:
            log.debug("progress not published: %s", error)
        except Exception:  # noqa: BLE001 - the picture is worth more than its progress
            (log.debug if self._has_failed else log.error)("progress not published", exc_info=True)
            self._has_failed = True

    async def _publish(self, step: int, steps: int) -> None:
        left_s = self._seconds_left(step, steps)
        preview = await self._preview_url()
        await self._outbox.publish_progress(self._image, step=step, steps=steps, seconds_left=left_s, preview=preview)

    async def _preview_url(self) -> str | None:
        """The newest preview as a data URL, if there is one and a preview is due; a bad one is ignored."""
        now_s = self._clock.monotonic()
        content = self._newest_preview
        if content is None or now_s < self._next_preview_s:
            return None
        self._newest_preview, self._next_preview_s = None, now_s + PREVIEW_PACE_S
        try:
            small = await asyncio.to_thread(make_preview, content, max_bytes=MAX_PREVIEW_BYTES)
        except BadImage as error:
            log.debug("preview ignored: %s", error.detail)
        except Exception:  # no error of a decoder may stop the painting
            log.debug("preview ignored", exc_info=True)
        else:
            return f"data:image/webp;base64,{b64encode(small).decode()}"
        return None

    def _seconds_left(self, step: int, steps: int) -> float | None:
        """Seconds left at the pace since the first step seen; None for that first step."""
        now_s = self._clock.monotonic()
        if self._first is None or step <= self._first[0]:
            self._first = (step, now_s)
            return None
        first_step, first_s = self._first
        return round((now_s - first_s) / (step - first_step) * (steps - step), 1)
