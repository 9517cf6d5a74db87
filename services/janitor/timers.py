"""Timers that fire once per interval, however many janitors run and whichever of them die.

token waits its interval ─▶ one janitor: arm the next token ─▶ guard ─▶ job ─▶ run finished
      ▲                                         │
      └─────────────────────────────────────────┘   every 3 intervals it is armed anyway, which heals a lost one
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from common.bus.port import DeadLetter, Done, Outcome, WorkQueue
from common.domain.errors import ServiceError, Unavailable
from common.domain.views import iso
from common.messages import Command, Tick, TickData
from common.store.port import Entry
from services.janitor.agreement import Agreement
from services.janitor.context import JanitorContext

log = logging.getLogger(__name__)

_EARLY = 0.9  # of an interval: a token armed by hand or to heal may come a little early
_WHOLE_S = 1.0  # the bus tells the time of a token's tick to the second
_HEAL_INTERVALS = 3


class Job(Protocol):
    """What a timer is for; the tools are those of the tick."""

    async def __call__(self, tick: TickData, /, *, context: JanitorContext) -> None: ...


@dataclass(frozen=True, slots=True)
class Timer:
    """A job and how often it is due; the queue's value is the type of its ticks."""

    queue: WorkQueue
    interval_s: float
    job: Job
    context: JanitorContext
    agreement: Agreement | None = None  # of the most frequent timer, whose ticks do not wait long for a janitor

    async def handle(self, tick: Command | Tick | DeadLetter) -> Outcome:
        """Do the job, unless another run of this interval has begun. What fails is done by the next tick."""
        if not isinstance(tick, Tick):
            return Done()
        try:
            if tick.token:
                if self.agreement is not None:
                    clock = self.context.clock
                    self.agreement.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=tick.time)
                await self._arm()
                if not await self._may_start(tick):
                    log.info("%s: this interval's run has begun already", self.queue)
                    return Done()
            await self.job(tick.data, context=self.context.at(tick.time))
            if tick.token:
                await self._finished(tick.id)
        except ServiceError as error:
            log.warning("%s broke off, the next tick goes on: %s", self.queue, error)
        if self.agreement is not None:
            self.agreement.ran(self.context.clock.monotonic())
        return Done()

    async def keep_armed(self) -> None:
        """Arm at the start and every 3 intervals; never returns."""
        while True:
            await self._arm()
            await asyncio.sleep(_HEAL_INTERVALS * self.interval_s)

    async def _arm(self) -> None:
        try:
            await self.context.bus.arm(self.queue, interval_s=self.interval_s)
        except Unavailable as error:
            log.warning("%s not armed, a later round will: %s", self.queue, error)

    async def _may_start(self, token: Tick) -> bool:
        """True for the first token of an interval, and for the redelivery of a run that did not finish.

        By the bus's clock alone, which all janitors share. A run of the future was noted by a clock that was wrong.
        """
        entry = await self.context.store.get_entry("timer", self.queue)
        if entry is not None:
            if entry.data["run"] == token.id:
                return not entry.data["finished"]
            apart = token.time - datetime.fromisoformat(entry.data["last_start"])
            if abs(apart.total_seconds()) < _EARLY * self.interval_s - _WHOLE_S:
                return False
        return await self.context.store.put_entry(self._entry(entry, token.id, started_at=token.time, finished=False))

    async def _finished(self, run: str) -> None:
        entry = await self.context.store.get_entry("timer", self.queue)
        if entry is not None and entry.data["run"] == run:
            started_at = datetime.fromisoformat(entry.data["last_start"])
            await self.context.store.put_entry(self._entry(entry, run, started_at=started_at, finished=True))

    def _entry(self, before: Entry | None, run: str, *, started_at: datetime, finished: bool) -> Entry:
        return Entry(
            kind="timer",
            key=self.queue,
            revision=before.revision + 1 if before else 1,
            data={"last_start": iso(started_at), "run": run, "finished": finished},
        )
