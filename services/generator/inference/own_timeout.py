"""A timeout of a call to a back end, which stops the work only if it is still ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.runtime.clock import Clock

_LATE_S: Final = 2.0


@dataclass(slots=True)
class OwnTimeout:
    """A limit in seconds, from now on."""

    clock: Clock
    limit_s: float
    began_s: float

    @classmethod
    def begin(cls, clock: Clock, limit_s: float) -> OwnTimeout:
        return cls(clock, limit_s, clock.monotonic())

    def is_on_time(self) -> bool:
        """Whether the timeout came when it was due.

        A process that was stopped (SIGSTOP, a frozen machine) gets it late: by then its lease has expired, and the work
        under the same remote id may be another worker's.
        """
        return self.clock.monotonic() - self.began_s <= self.limit_s + _LATE_S
