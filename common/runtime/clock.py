"""The clock: the only code that reads the time, so that a test can control it."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

log = logging.getLogger(__name__)

STEP_THRESHOLD: Final = timedelta(seconds=5)  # hosts that use NTP differ by less; slewing never steps
STEP_ACCEPTED_AFTER_S: Final = 900.0  # the default deadline: work started before the step ends by the old time


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock: aware, UTC, in whole milliseconds, which both stores keep exactly."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, never decreasing; for durations only."""

    def stable_now(self) -> datetime:
        """The wall clock, except that a step of it takes effect 15 minutes late; for leases and deadlines.

        A step is detected when this method is called, and accepted once it has lasted that long. So neither a wrong
        clock nor its correction affects work in progress.
        """


def latest_now(clock: Clock) -> datetime:
    """The later of both times, for a new record or dispatch: a clock that was set back must not make it overdue."""
    return max(clock.now(), clock.stable_now())


def whole_ms(moment: datetime) -> datetime:
    """The moment cut to milliseconds, the precision of MongoDB's dates (BSON spec, UTC datetime is int64 ms)."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class _StepFilter:
    """The wall clock continued by the monotonic clock, until a step between the two is accepted."""

    def __init__(self, wall: datetime, monotonic_s: float) -> None:
        self._start = wall - timedelta(seconds=monotonic_s)
        self._stepped: tuple[datetime, float] | None = None  # to where, and when

    def at(self, wall: datetime, monotonic_s: float) -> datetime:
        start = wall - timedelta(seconds=monotonic_s)
        step = start - self._start
        if self._stepped is not None and abs(start - self._stepped[0]) > STEP_THRESHOLD:
            self._stepped = None  # another step: its time starts now
        is_accepted = self._stepped is not None and monotonic_s - self._stepped[1] >= STEP_ACCEPTED_AFTER_S
        if abs(step) <= STEP_THRESHOLD or is_accepted:
            self._start, self._stepped = start, None
            return wall
        if self._stepped is None:
            self._stepped = (start, monotonic_s)
            log.warning(
                "the clock of this host stepped by %+.0f s; the step is ignored for %d s; is NTP running?",
                step.total_seconds(),
                STEP_ACCEPTED_AFTER_S,
            )
        return self._start + timedelta(seconds=monotonic_s)


class SystemClock:
    def __init__(self) -> None:
        self._steps = _StepFilter(self.now(), _since_boot_s())

    def now(self) -> datetime:
        return whole_ms(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()

    def stable_now(self) -> datetime:
        return whole_ms(self._steps.at(self.now(), _since_boot_s()))


def _since_boot_s() -> float:
    """Includes the time that the host was suspended, unlike the monotonic clock, so that a resume is not a step."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ManualClock:
    """A clock for tests: it changes only by `advance` and `step`."""

    def __init__(self, start: datetime = datetime(2025, 1, 15, 12, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed_s = 0.0
        self._steps = _StepFilter(start, 0.0)

    def now(self) -> datetime:
        return whole_ms(self._now)

    def monotonic(self) -> float:
        return self._elapsed_s

    def stable_now(self) -> datetime:
        return whole_ms(self._steps.at(self._now, self._elapsed_s))

    def step(self, seconds: float) -> None:
        """Set the wall clock forward or back, without any time passing."""
        self._now += timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed_s += seconds
