"""Watches the turns of one owner on record, from outside, while everything else goes on.

At no moment more images are dispatched than the owner has slots, and no image waits for long while a slot is free.
"""

import asyncio
import time
from dataclasses import dataclass, field

from common.domain.turns import slot_keys
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store
from common.store.port import Store
from tests.faults.checker import OWNER

PAUSE_S = 0.02


@dataclass
class TurnWatch:
    """`run` is the task that looks; all images of the store must be those of the owner."""

    slots: int
    longest_idle_s: float = 0.0  # with a free slot, while an image waited
    most_dispatched: int = 0
    most_waiting: int = 0
    looks: int = 0
    _idle_since: float | None = field(default=None, repr=False)

    async def run(self, settings: Settings) -> None:
        async with open_store(settings.store_url, timeout_s=10) as store:
            while True:
                await self._look(store)
                await asyncio.sleep(PAUSE_S)

    def violations(self, *, idle_s: float) -> list[str]:
        """What was wrong; an image may wait beside a free slot for `idle_s` seconds, until a janitor has looked."""
        found = []
        if self.most_dispatched > self.slots:
            found.append(f"{self.most_dispatched} images were dispatched at once, of at most {self.slots}")
        if self.longest_idle_s > idle_s:
            found.append(f"an image waited for {self.longest_idle_s:.1f} s while a slot was free")
        return found

    async def _look(self, store: Store) -> None:
        # in one query each: what is read in several may never have been true at once
        self.most_dispatched = max(self.most_dispatched, await store.count_dispatched(limit=10_000, pool=None))
        due = await store.next_waiting(OWNER, now=SystemClock().now(), limit=1)
        self.most_waiting = max(self.most_waiting, await store.count_waiting(OWNER, limit=10_000))
        held = await store.held_slots(slot_keys(OWNER, self.slots))
        now_s = time.monotonic()
        if not due or len(held) == self.slots:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now_s
        else:
            self.longest_idle_s = max(self.longest_idle_s, now_s - self._idle_since)
        self.looks += 1
