"""The one place where the time is read, so that a test can move it."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

log = logging.getLogger(__name__)

STEP_THRESHOLD: Final = timedelta(seconds=5)  # hosts that keep time by NTP differ by less; slewing never jumps
STEP_ACCEPTED_AFTER_S: Final = 900.0  # the usual deadline: what was begun before a step ends by the old time


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock: aware, UTC, whole milliseconds (what both stores keep exactly)."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back: for durations only."""

    def stable_now(self) -> datetime:
        """The wall clock without a step of the last quarter of an hour: for leases, and whether something is over.

        A step is noticed when it is asked for, and believed once it has stood so long: neither a clock set wrong nor
        one set right again takes effect on what is under way.
        """


def whole_ms(moment: datetime) -> datetime:
    """Cut to milliseconds: MongoDB's dates hold no more (BSON spec, UTC datetime is int64 ms)."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class _StepFilter:
    """The wall clock as the monotonic one carries it on, until a step between the two is believed."""

    def __init__(self, wall: datetime, monotonic_s: float) -> None:
        self._start = wall - timedelta(seconds=monotonic_s)
        self._stepped: tuple[datetime, float] | None = None  # to where, and when

    def at(self, wall: datetime, monotonic_s: float) -> datetime:
        start = wall - timedelta(seconds=monotonic_s)
        step = start - self._start
        if self._stepped is not None and abs(start - self._stepped[0]) > STEP_THRESHOLD:
            self._stepped = None  # it has stepped once more
        has_stood = self._stepped is not None and monotonic_s - self._stepped[1] >= STEP_ACCEPTED_AFTER_S
        if abs(step) <= STEP_THRESHOLD or has_stood:
            self._start, self._stepped = start, None
            return wall
        if self._stepped is None:
            self._stepped = (start, monotonic_s)
            log.warning(
                "the clock of this host has stepped by %+.0f s: not believed for %d s; is NTP at work?",
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
    """With the time that the host was suspended, which the monotonic clock leaves out: waking up is no step."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class ManualClock:
    """Stands still until it is moved."""

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
        """Set the wall clock forward or back: no time has passed."""
        self._now += timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed_s += seconds
