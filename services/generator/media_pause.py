"""A pause in taking work while the media cannot be written: no image fails because of a full or missing disk.

taking ──a file cannot be stored──▶ paused ──the media can be written again──▶ taking
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from common.bus.port import Consumer
from common.domain.errors import Unavailable
from common.media.port import Media

log = logging.getLogger(__name__)

MAX_PAUSE_S: Final = 30.0  # a nearly full disk takes the small file of a check, and then not the picture


@dataclass(slots=True)
class SharedPause:
    """Pauses one consumer for several reasons; it takes work again when all of them have ended."""

    consumer: Consumer
    _reasons: set[str] = field(default_factory=set)

    def view(self, reason: str) -> PausedFor:
        """The consumer, as the part sees it that pauses it for this reason."""
        return PausedFor(self, reason)

    async def pause(self, reason: str) -> None:
        self._reasons.add(reason)
        await self.consumer.pause()

    async def resume(self, reason: str) -> None:
        self._reasons.discard(reason)
        if not self._reasons:
            await self.consumer.resume()


@dataclass(frozen=True, slots=True)
class PausedFor:
    """A consumer whose pauses count for one reason."""

    shared: SharedPause
    reason: str

    @property
    def in_flight(self) -> int:
        return self.shared.consumer.in_flight

    async def pause(self) -> None:
        await self.shared.pause(self.reason)

    async def resume(self) -> None:
        await self.shared.resume(self.reason)

    async def limit(self, concurrency: int) -> None:
        await self.shared.consumer.limit(concurrency)

    async def drain(self, timeout_s: float) -> bool:
        return await self.shared.consumer.drain(timeout_s)


class MediaPause:
    """The task `run` pauses the consumer after a failure, and tries the media again."""

    def __init__(self, media: Media, *, pause_s: float) -> None:
        self._media = media
        self._first_pause_s = self._pause_s = pause_s
        self._failed = asyncio.Event()

    def record_success(self) -> None:
        self._pause_s = self._first_pause_s

    def record_failure(self) -> None:
        self._failed.set()

    async def run(self, consumer: Consumer) -> None:
        """Pause and resume while the consumer runs; never returns."""
        while True:
            await self._failed.wait()
            log.warning("the media cannot be written: no work is taken until they can")
            await consumer.pause()
            await self._wait_until_writable()
            self._failed.clear()
            log.info("the media can be written: taking work again")
            await consumer.resume()

    async def _wait_until_writable(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
            try:
                await self._media.check()
            except Unavailable as error:
                log.warning("still not: %s", error)
            else:
                return
