"""Admission of an owner's request under the limits of an hour and of unfinished images.

The hourly limit is one small entry for each owner, changed by compare-and-swap. The limit on unfinished images is
a unique key on the record itself. So both are exact over any number of replicas.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final
from weakref import WeakValueDictionary

from common.application.intake import Intake
from common.application.quota_store import QuotaStore
from common.domain import quotas
from common.domain.images import Image, Status
from common.domain.quotas import OwnerQuotas, QuotaState, Window
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store

KIND: Final = "quota"


class Admission:
    """Admits requests within the limits of their owner; one for each process.

    A lock admits the requests of one owner one after another within this process, and the store does so between
    replicas. So a request that is refused in the end never holds a place that another request could have had.
    """

    def __init__(self, settings: Settings, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._concurrent = settings.concurrent_requests
        self._hourly = settings.requests_per_hour
        self._quota = QuotaStore(kind=KIND, limit=self._hourly, store=store, clock=clock)
        self._intake = Intake(self._quota, store, slots=self._concurrent)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def record(self, image: Image) -> tuple[Image, Window]:
        """Admit the image and insert its record durably; returns the record and the window of its owner's hour.

        Raises:
            LimitReached: `hourly_limit` or `concurrent_limit`; nothing is recorded.
            Duplicate: another request with its idempotency key came at the same time.
        """
        async with self._lock(image.owner):
            return await self._intake.record(image, quota_key=image.owner)

    async def limits(self, owner: str) -> OwnerQuotas:
        """The limits of the owner, and what is left of them."""
        window = await self._quota.usage(owner)
        active = await self._store.count_history(owner, {Status.QUEUED, Status.RUNNING})
        resets_in_s = quotas.available_in_s(window, now=self._clock.now(), limit=self._hourly) if self._hourly else 0
        return OwnerQuotas(
            hourly=QuotaState(limit=self._hourly, remaining=self.left(window), resets_in_s=resets_in_s),
            concurrent=QuotaState(limit=self._concurrent, remaining=max(0, self._concurrent - active), resets_in_s=0),
        )

    def left(self, window: Window) -> int:
        """How many more images fit into the hour."""
        return max(0, self._hourly - len(window.entries))

    def _lock(self, owner: str) -> AbstractAsyncContextManager[None]:
        if not self._hourly and not self._concurrent:
            return nullcontext()
        return self._locks.setdefault(owner, asyncio.Lock())
