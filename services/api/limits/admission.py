"""Admission of an owner's request under the limits of an hour, of dispatched images and of waiting images.

The hourly limit is one small entry for each owner, changed by compare-and-swap. The other limits are unique keys on the
records themselves (`common/domain/turns.py`). So all are exact over any number of replicas.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final
from weakref import WeakValueDictionary

from common.application.fleet.reader import Fleet
from common.application.intake import Intake
from common.application.quota_store import QuotaStore
from common.domain import quotas
from common.domain.images import Image
from common.domain.quotas import OwnerQuotas, QuotaState, Window
from common.domain.turns import Line
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store

KIND: Final = "quota"


class Admission:
    """Admits requests within the limits of their owner; one for each process.

    A lock admits the requests of one owner one after another within this process, and the store does so between
    replicas. So a request that is refused in the end never holds a place that another request could have had.
    """

    def __init__(self, settings: Settings, *, store: Store, clock: Clock, fleet: Fleet | None = None) -> None:
        self._store = store
        self._clock = clock
        self._line = Line(settings.concurrent_requests, settings.waiting_requests, "w")
        self._hourly = settings.requests_per_hour
        self._quota = QuotaStore(kind=KIND, limit=self._hourly, store=store, clock=clock)
        self._intake = Intake(self._quota, store, self._line, fleet)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def record(self, image: Image, *, may_wait: bool = True) -> tuple[Image, Window]:
        """Admit the images of a request and insert their records durably, or refuse all.

        Returns the first, for `Batches.begin`, and the window of its owner's hour. One image that may not wait is
        dispatched at once or refused, but waits for a generator of its model; of several, each waits for its turn if it
        has to.

        Raises:
            LimitReached: `hourly_limit`, `waiting_limit` or `concurrent_limit`; nothing is recorded.
            Invalid: `too_many_images`, so many never fit.
            Duplicate: another request with its idempotency key came at the same time.
        """
        async with self._lock(image.owner):
            return await self._intake.record(image, quota_key=image.owner, may_wait=may_wait or image.batch is not None)

    async def record_other(self, image: Image) -> None:
        """Insert one of the other images of a recorded request, as waiting; again without effect."""
        await self._intake.record_other(image)

    async def limits(self, owner: str) -> OwnerQuotas:
        """The limits of the owner, and what is left of them."""
        window = await self._quota.usage(owner)
        resets_in_s = quotas.available_in_s(window, now=self._clock.now(), limit=self._hourly) if self._hourly else 0
        return OwnerQuotas(
            hourly=QuotaState(limit=self._hourly, remaining=self.left(window), resets_in_s=resets_in_s),
            concurrent=await self._keys_left(self._line.slots, self._line.slot_keys(owner)),
            waiting=None
            if self._line.places is None
            else await self._keys_left(self._line.places, self._line.place_keys(owner)),
        )

    def left(self, window: Window) -> int:
        """How many more images fit into the hour."""
        return max(0, self._hourly - len(window.entries))

    async def _keys_left(self, limit: int, keys: list[str]) -> QuotaState:
        held = await self._store.held_slots(keys) if keys else set()
        return QuotaState(limit=limit, remaining=len(keys) - len(held), resets_in_s=0)

    def _lock(self, owner: str) -> AbstractAsyncContextManager[None]:
        if not self._hourly and not self._line.slots:
            return nullcontext()
        return self._locks.setdefault(owner, asyncio.Lock())
