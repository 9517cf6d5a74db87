"""Whether this janitor's clock agrees with the bus's: the broker is another host, with a clock of its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from common.runtime import metrics

log = logging.getLogger(__name__)

AT_ONCE_S: Final = 1.0  # a tick that waited comes within milliseconds of the ack before it
TOLERATED_S: Final = 10.0  # a tick is told to the second, and may wait for the run before it


@dataclass(slots=True)
class Agreement:
    """Compares at each token's tick of one timer, and says what has changed, once."""

    _last_s: float = 0.0
    _told_s: float = 0.0
    _ran_until_s: float = float("-inf")

    def ran(self, now_s: float) -> None:
        """A run has ended, by the monotonic clock."""
        self._ran_until_s = now_s

    def compare(self, *, own: datetime, now_s: float, ticked_at: datetime) -> None:
        """Two ticks in a row must differ alike: one alone may have waited for a janitor.

        One that comes upon the end of a run is not looked at: where runs are long, each waits for the one before.
        """
        if now_s - self._ran_until_s < AT_ONCE_S:
            return
        ahead_s = (own - ticked_at).total_seconds()
        is_steady = abs(ahead_s - self._last_s) < TOLERATED_S
        self._last_s = ahead_s
        if not is_steady:
            return
        metrics.clock_ahead.set(ahead_s)
        if abs(ahead_s - self._told_s) < TOLERATED_S:
            return
        self._told_s = ahead_s
        if abs(ahead_s) < TOLERATED_S:
            log.info("the clocks of this host and of the bus agree again")
            return
        log.warning(
            "the clock of this host is %.0f s %s that of the bus, and the earlier says what is over: is NTP at work?",
            abs(ahead_s),
            "ahead of" if ahead_s > 0 else "behind",
        )
