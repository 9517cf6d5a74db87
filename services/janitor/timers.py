"""Timers that run a job once per interval, however many janitors run and whichever of them die.

token waits its interval ─▶ one janitor: arm the next token ─▶ begin the run ─▶ job ─▶ end the run
      ▲                                         │
      └─────────────────────────────────────────┘   every 3 intervals it is armed anyway, which replaces a lost one
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from common.bus.port import DeadLetter, Done, Outcome, WorkQueue
from common.domain.errors import ServiceError, Unavailable, Unreadable
from common.domain.views import iso
from common.messages import Command, Tick, TickData
from common.store.port import Entry
from services.janitor.clock_comparison import ClockComparison
from services.janitor.context import JanitorContext

log = logging.getLogger(__name__)

_MIN_INTERVALS = 0.9  # between two runs: a token that replaces a lost one may come a little early
_TICK_RESOLUTION_S = 1.0  # the bus gives the time of a token's tick in whole seconds
_REARM_INTERVALS = 3


class TimerJob(Protocol):
    """The job of a timer; the context is that of the tick."""

    async def __call__(self, tick: TickData, /, *, context: JanitorContext) -> None: ...


@dataclass(frozen=True, slots=True)
class JanitorTimer:
    """A job and its interval; the value of the queue is the type of its ticks."""

    queue: WorkQueue
    interval_s: float
    job: TimerJob
    context: JanitorContext
    clocks: ClockComparison | None = None  # for the most frequent timer, whose ticks wait least for a janitor

    async def handle(self, tick: Command | Tick | DeadLetter) -> Outcome:
        """Run the job, unless another run of this interval has begun. After an error the next tick continues."""
        if not isinstance(tick, Tick):
            return Done()
        ticked_at = tick.time or self.context.clock.now()
        try:
            if tick.token:
                self._compare_clocks(ticked_at)
                await self._arm()
                if not await self._begin_run(tick, ticked_at):
                    log.info("%s: this interval has had its run", self.queue)
                    return Done()
            await self.job(tick.data, context=self.context.at(ticked_at))
            if tick.token:
                await self._end_run(tick.id)
        except ServiceError as error:
            log.warning("%s failed, the next tick continues: %s", self.queue, error)
        if self.clocks is not None:
            self.clocks.run_ended(self.context.clock.monotonic())
        return Done()

    async def rearm_regularly(self) -> None:
        """Arm the timer now and every 3 intervals; never returns."""
        while True:
            await self._arm()
            await asyncio.sleep(_REARM_INTERVALS * self.interval_s)

    def _compare_clocks(self, ticked_at: datetime) -> None:
        if self.clocks is not None:
            clock = self.context.clock
            self.clocks.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=ticked_at)

    async def _arm(self) -> None:
        try:
            await self.context.bus.arm(self.queue, interval_s=self.interval_s)
        except Unavailable as error:
            log.warning("%s not armed, will be tried again: %s", self.queue, error)

    async def _begin_run(self, token: Tick, ticked_at: datetime) -> bool:
        """Begin a run: true for the first token of an interval, and for the redelivery of an unfinished run.

        Only the clock of the bus counts, which all janitors share. A recorded start in the future was written by a
        clock that was wrong, and is ignored.
        """
        entry = await self._last_run()
        if entry is not None and (last_start := _last_start(entry)) is not None:
            if entry.data.get("run") == token.id:
                return not entry.data.get("finished")
            apart = ticked_at - last_start
            if abs(apart.total_seconds()) < _MIN_INTERVALS * self.interval_s - _TICK_RESOLUTION_S:
                return False
        return await self.context.store.put_entry(self._entry(entry, token.id, started_at=ticked_at, finished=False))

    async def _end_run(self, run: str) -> None:
        entry = await self._last_run()
        if entry is not None and entry.data.get("run") == run and (started_at := _last_start(entry)) is not None:
            await self.context.store.put_entry(self._entry(entry, run, started_at=started_at, finished=True))

    async def _last_run(self) -> Entry | None:
        try:
            return await self.context.store.get_entry("timer", self.queue)
        except Unreadable as error:  # a damaged entry would stop the timer for ever
            log.warning("%s: its entry is removed: %s", self.queue, error)
            await self.context.store.remove_entry("timer", self.queue)
            return None

    def _entry(self, before: Entry | None, run: str, *, started_at: datetime, finished: bool) -> Entry:
        done = iso(started_at) if finished else before and last_success(before)
        return Entry(
            kind="timer",
            key=self.queue,
            revision=before.revision + 1 if before else 1,
            data={
                "last_start": iso(started_at),
                "run": run,
                "finished": finished,
                **({"last_success": done} if done else {}),
            },
        )


def last_success(entry: Entry) -> str | None:
    """When the last run began that did not fail; None if there is none, or if the entry does not say it."""
    found = entry.data.get("last_success") or (entry.data.get("last_start") if entry.data.get("finished") else None)
    return found if isinstance(found, str) else None


def _last_start(entry: Entry) -> datetime | None:
    """When the last run began; None if the entry does not say it, which the next run corrects."""
    try:
        last_start = datetime.fromisoformat(entry.data["last_start"])
    except (KeyError, TypeError, ValueError):
        return None
    return last_start if last_start.tzinfo else None
