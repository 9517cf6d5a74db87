"""Timers that fire once per interval, however many janitors run and whichever of them die.

token waits its interval ─▶ one janitor: arm the next token ─▶ guard ─▶ job ─▶ run finished
      ▲                                         │
      └─────────────────────────────────────────┘   every 3 intervals it is armed anyway, which heals a lost one
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.bus.port import Bus, DeadLetter, Done, Outcome, WorkQueue
from common.clock import Clock
from common.errors import ServiceError, Unavailable
from common.messages import Command, Tick, TickData, iso
from common.store.port import Entry, Store

log = logging.getLogger(__name__)

Job = Callable[[TickData], Awaitable[None]]
_EARLY = 0.9  # of an interval: a token may come a little early by another janitor's clock
_HEAL_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class Timer:
    """A job and how often it is due; the queue's value is the type of its ticks."""

    queue: WorkQueue
    interval_s: float
    job: Job
    bus: Bus
    store: Store
    clock: Clock

    async def handle(self, tick: Command | Tick | DeadLetter) -> Outcome:
        """Do the job, unless another run of this interval has begun. What fails is done by the next tick."""
        if not isinstance(tick, Tick):
            return Done()
        try:
            if tick.token:
                await self._arm()
                if not await self._may_start(tick.id):
                    log.info("%s: this interval's run has begun already", self.queue)
                    return Done()
            await self.job(tick.data)
            if tick.token:
                await self._finished(tick.id)
        except ServiceError as error:
            log.warning("%s broke off, the next tick goes on: %s", self.queue, error)
        return Done()

    async def keep_armed(self) -> None:
        """Arm at the start and every 3 intervals; never returns."""
        while True:
            await self._arm()
            await asyncio.sleep(_HEAL_INTERVALS * self.interval_s)

    async def _arm(self) -> None:
        try:
            await self.bus.arm(self.queue, interval_s=self.interval_s)
        except Unavailable as error:
            log.warning("%s not armed, a later round will: %s", self.queue, error)

    async def _may_start(self, run: str) -> bool:
        """True for the first token of an interval, and for the redelivery of a run that did not finish."""
        entry = await self.store.entry("timer", self.queue)
        now = self.clock.now()
        if entry is not None:
            if entry.data["run"] == run:
                return not entry.data["finished"]
            last_start = datetime.fromisoformat(entry.data["last_start"])
            if last_start > now - timedelta(seconds=_EARLY * self.interval_s):
                return False
        return await self.store.put(self._entry(entry, run, started_at=now, finished=False))

    async def _finished(self, run: str) -> None:
        entry = await self.store.entry("timer", self.queue)
        if entry is not None and entry.data["run"] == run:
            started_at = datetime.fromisoformat(entry.data["last_start"])
            await self.store.put(self._entry(entry, run, started_at=started_at, finished=True))

    def _entry(self, before: Entry | None, run: str, *, started_at: datetime, finished: bool) -> Entry:
        return Entry(
            kind="timer",
            key=self.queue,
            revision=before.revision + 1 if before else 1,
            data={"last_start": iso(started_at), "run": run, "finished": finished},
        )
