"""When a delivery is tried again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

JITTER: Final = 0.2  # of a delay is added at most, so that the deliveries of an outage do not come back together
MAX_RETRY_AFTER_S: Final = 86_400.0  # of the receiver's wish: the longest delay of the schedule


def next_delay_s(tried: int, delays_s: Sequence[float], *, retry_after_s: float) -> float | None:
    """The delay after so many tries, at least as long as the receiver asks for; None after the last try."""
    if tried > len(delays_s):
        return None
    delay_s = delays_s[tried - 1] * random.uniform(1, 1 + JITTER)  # no secret
    return max(delay_s, min(retry_after_s, MAX_RETRY_AFTER_S))
