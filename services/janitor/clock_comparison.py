"""Comparison of this host's clock with the clock of the bus, which runs on another host."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.runtime import metrics

log = logging.getLogger(__name__)

WAITED_S: Final = 1.0  # a tick that waited for a run is delivered within milliseconds of its acknowledgement
TOLERATED_S: Final = 10.0  # a tick's time has whole seconds, and the tick may wait for the run before it


@dataclass(slots=True)
class ClockComparison:
    """Compares at each token's tick of one timer, and logs each change once."""

    _last_s: float = 0.0
    _reported_s: float = 0.0
    _run_ended_s: float = float("-inf")

    def run_ended(self, now_s: float) -> None:
        """Note when a run ended, by the monotonic clock."""
        self._run_ended_s = now_s

    def compare(self, *, own: datetime, now_s: float, ticked_at: datetime) -> None:
        """Report a difference that two consecutive ticks agree on: a single tick may have waited for a janitor.

        A tick that follows directly on the end of a run is ignored: it waited for that run, as all ticks do while the
        runs are long.
        """
        if now_s - self._run_ended_s < WAITED_S:
            return
        ahead_s = (own - ticked_at).total_seconds()
        is_steady = abs(ahead_s - self._last_s) < TOLERATED_S
        self._last_s = ahead_s
        if not is_steady:
            return
        metrics.clock_ahead.set(ahead_s)
        if abs(ahead_s - self._reported_s) < TOLERATED_S:
            return
        self._reported_s = ahead_s
        if abs(ahead_s) < TOLERATED_S:
            log.info("the clocks of this host and of the bus agree again")
            return
        log.warning(
            "the clock of this host is %.0f s %s the clock of the bus; the earlier one decides what has expired. "
            "Check NTP on both hosts",
            abs(ahead_s),
            "ahead of" if ahead_s > 0 else "behind",
        )
