"""Whether an owner may order one more image: at most so many in an hour, and so many unfinished at once.

"At once" is a unique key on the record itself, so it is exact over any number of replicas and nothing can leak;
"an hour" is one small entry for each owner, changed by compare-and-swap.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final
from weakref import WeakValueDictionary

from common.application.quota_store import QuotaStore
from common.domain import quotas
from common.domain.errors import Duplicate, LimitReached
from common.domain.images import Image, Status
from common.domain.quotas import Window
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store
from services.api.routes.schema import Limit, Limits

KIND: Final = "quota"
_BUSY_RETRY_S: Final = 5.0  # an image takes seconds; there is no telling which


class Admission:
    """One for each process. The orders of one owner are admitted here one after another, against those of the other
    replicas by the store: so no order that is refused in the end takes a place that another could have had."""

    def __init__(self, settings: Settings, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._at_once = settings.concurrent_requests
        self._hourly = settings.requests_per_hour
        self._book = QuotaStore(kind=KIND, limit=self._hourly, store=store, clock=clock)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def record(self, image: Image) -> tuple[Image, Window]:
        """Admit the image and put it on record, durably; returns it as recorded, and its owner's hour.

        Raises:
            LimitReached: `hourly_limit` or `concurrent_limit`; nothing is recorded.
            Duplicate: its idempotency key came in at the same time by another request.
        """
        async with self._turn(image.owner):
            window = await self._book.reserve(image.owner, image.id)
            try:
                return await self._insert(image), window
            except (LimitReached, Duplicate):
                await self._book.release(image.owner, image.id)
                raise

    async def limits(self, owner: str) -> Limits:
        """What the owner has left."""
        window = await self._book.usage(owner)
        active = await self._store.count_history(owner, {Status.QUEUED, Status.RUNNING})
        resets_in = quotas.available_in_s(window, now=self._clock.now(), limit=self._hourly) if self._hourly else 0
        return Limits(
            hourly=Limit(limit=self._hourly, remaining=self.left(window), resets_in=resets_in),
            concurrent=Limit(limit=self._at_once, remaining=max(0, self._at_once - active), resets_in=0),
        )

    def left(self, window: Window) -> int:
        """Orders that still fit into the hour."""
        return max(0, self._hourly - len(window.entries))

    def _turn(self, owner: str) -> AbstractAsyncContextManager[None]:
        if not self._hourly and not self._at_once:
            return nullcontext()
        return self._turns.setdefault(owner, asyncio.Lock())

    async def _insert(self, image: Image) -> Image:
        if not self._at_once:
            await self._store.insert(image)
            return image
        for number in range(self._at_once):
            held = image.model_copy(update={"slot": f"{image.owner}:{number}"})
            try:
                await self._store.insert(held)
            except Duplicate as taken:
                if taken.key != "slot":
                    raise
            else:
                return held
        raise LimitReached(
            f"{self._at_once} images are under way already; wait for one to finish, or cancel it",
            code="concurrent_limit",
            retry_after_s=_BUSY_RETRY_S,
        )
