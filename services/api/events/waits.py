"""Requests that wait for an image: one reader of the record for each image, however many requests wait for it.

event of the end ──▶ ImageWatch ──reads the record──▶ all requests that wait for the image
poll interval ─────▶     └─ each second: has a client disconnected?
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from common.domain.errors import LimitReached, Unavailable
from common.domain.images import Image
from common.runtime.clock import Clock
from common.store.port import Store

log = logging.getLogger(__name__)

CHECK_S: Final = 1.0  # aiohttp reports a disconnect only to a handler that reads, so it is looked for
LAST_READ_S: Final = 1.0  # longest read of the record after the end of a wait
RETRY_AFTER_S: Final = 5.0


class Disconnected(Exception):
    """The client has closed its connection, so nobody reads the answer."""


@dataclass(eq=False, slots=True)
class _Waiter:
    has_left: Callable[[], bool]
    result: asyncio.Future[Image | None]


class ImageWatch:
    """Reads the record of one image for all that wait for it; `run` is the task that reads."""

    def __init__(self, image: Image, *, store: Store, clock: Clock, poll_s: float) -> None:
        self.latest: Image | None = image
        self.waiters: set[_Waiter] = set()
        self.read_done = asyncio.Event()
        self._store = store
        self._clock = clock
        self._poll_s = poll_s
        self._hint = asyncio.Event()
        self._hint.set()

    def hint(self) -> None:
        """The record has changed, or may have: read it now."""
        self.read_done.clear()
        self._hint.set()

    def release(self) -> None:
        """End the wait of every request."""
        for waiter in self.waiters:
            if not waiter.result.done():
                waiter.result.set_result(self.latest)

    async def run(self) -> None:
        """Read the record at each hint, and at each interval; return when it is final or gone."""
        read_at_s = float("-inf")
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(CHECK_S, self._poll_s)):
                    await self._hint.wait()
            self._wake_disconnected()
            if not self._hint.is_set() and self._clock.monotonic() - read_at_s < self._poll_s:
                continue
            self._hint.clear()
            read_at_s = self._clock.monotonic()
            try:
                self.latest = await self._store.get(self.latest.id) if self.latest is not None else None
            except Unavailable as error:
                log.debug("the store is unavailable, reading the record again: %s", error)
                continue
            except Exception as error:  # noqa: BLE001  each of the requests reports it
                self._fail(error)
                return
            self.read_done.set()
            if self.latest is None or self.latest.status.is_final:
                self.release()
                return

    def _fail(self, error: Exception) -> None:
        for waiter in self.waiters:
            if not waiter.result.done():
                waiter.result.set_exception(error)

    def _wake_disconnected(self) -> None:
        for waiter in self.waiters:
            if not waiter.result.done() and waiter.has_left():
                waiter.result.set_exception(Disconnected())


class Waits:
    """The requests of this process that wait for an image, within a limit for each owner."""

    def __init__(self, store: Store, clock: Clock, *, poll_s: float, max_per_owner: int) -> None:
        self._store = store
        self._clock = clock
        self._poll_s = poll_s
        self._max_per_owner = max_per_owner
        self._watches: dict[str, ImageWatch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: Counter[str] = Counter()
        self._is_stopping = False

    @contextmanager
    def counted(self, owner: str) -> Iterator[None]:
        """Count one request of this owner that may wait.

        Raises:
            LimitReached: `wait_limit`, the owner has too many of them.
        """
        if self._waiting[owner] >= self._max_per_owner:
            raise LimitReached(
                f"{self._max_per_owner} requests wait for an image already; use Prefer: respond-async",
                code="wait_limit",
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting[owner] += 1
        try:
            yield
        finally:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner]

    def hint(self, image_id: str) -> None:
        """An event says that the image has ended."""
        if watch := self._watches.get(image_id):
            watch.hint()

    def release(self) -> None:
        """The service stops: every request ends with the record as it is."""
        self._is_stopping = True
        for watch in self._watches.values():
            watch.release()

    async def until_final(
        self, image: Image, *, timeout_s: float, has_left: Callable[[], bool] = lambda: False
    ) -> Image | None:
        """The record when it is final or deleted, or as it is after the timeout, also while the store is unavailable.

        An event is only the hint to read the record. It is also read at the start, and at intervals.

        Raises:
            Disconnected: the client has left.
        """
        if has_left():
            raise Disconnected
        if self._is_stopping or image.status.is_final or timeout_s <= 0:
            return image
        with self._joined(image, has_left) as (watch, waiter):
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await waiter.result
            if watch.latest is not None and not watch.latest.status.is_final:
                # the time is over, or the service stops: the answer shows the record as it is now
                watch.hint()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_READ_S):
                        await watch.read_done.wait()
            return watch.latest

    async def until_all_final(
        self, images: Sequence[Image], *, timeout_s: float, has_left: Callable[[], bool] = lambda: False
    ) -> list[Image | None]:
        """`until_final` for all of these images, within one time; they end one after another, so they are one wait."""
        ends_s = self._clock.monotonic() + timeout_s
        found = [
            await self.until_final(image, timeout_s=ends_s - self._clock.monotonic(), has_left=has_left)
            for image in images
        ]
        if len(images) > 1 and any(image is not None and not image.status.is_final for image in found):
            # while one was waited for, the others may have changed
            with suppress(TimeoutError, Unavailable):
                async with asyncio.timeout(LAST_READ_S):
                    latest = await self._store.get_several([image.id for image in images])
                    found = [latest.get(image.id) for image in images]
        return found

    @contextmanager
    def _joined(self, image: Image, has_left: Callable[[], bool]) -> Iterator[tuple[ImageWatch, _Waiter]]:
        watch = self._watches.get(image.id)
        if watch is None or self._tasks[image.id].done():
            watch = ImageWatch(image, store=self._store, clock=self._clock, poll_s=self._poll_s)
            self._watches[image.id] = watch
            self._tasks[image.id] = asyncio.create_task(watch.run())
        waiter = _Waiter(has_left, asyncio.get_running_loop().create_future())
        watch.waiters.add(waiter)
        try:
            yield watch, waiter
        finally:
            watch.waiters.discard(waiter)
            # the last one ends the task; another watch may have taken the place of one whose task had ended
            if not watch.waiters and self._watches.get(image.id) is watch:
                del self._watches[image.id]
                self._tasks.pop(image.id).cancel()
