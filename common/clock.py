"""The one place where the time is read, so that a test can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The wall clock: aware, UTC, whole milliseconds (what both stores keep exactly)."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back: for durations only."""


def whole_ms(moment: datetime) -> datetime:
    """Cut to milliseconds: MongoDB's dates hold no more (BSON spec, UTC datetime is int64 ms)."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class SystemClock:
    def now(self) -> datetime:
        return whole_ms(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self, start: datetime = datetime(2025, 1, 15, 12, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return whole_ms(self._now)

    def monotonic(self) -> float:
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed_s += seconds
