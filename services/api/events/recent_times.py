"""How long an image will wait, from the painting times and the concurrency of the last minutes.

The times are those of the events that this replica has read. Without recent ones nothing is estimated.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from common.domain.views import ImageView
from common.messages import FINAL_EVENTS, AnyImageEvent, ImageChanged
from common.runtime.clock import Clock

WINDOW_S: Final = 600.0  # older times say little about the present load
MAX_TIMES: Final = 200
MAX_STARTED: Final = 10_000  # the end of a started image may be missed: the log was cut


class RecentTimes:
    """Knows the images in work and the latest painting times; `on_event` takes every event."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: deque[tuple[float, float]] = deque(maxlen=MAX_TIMES)  # (when, seconds of painting)
        self._peaks: deque[tuple[float, int]] = deque(maxlen=MAX_TIMES)  # (when, images in work)
        self._started: dict[str, float] = {}

    def on_event(self, event: AnyImageEvent) -> None:
        now_s = self._clock.monotonic()
        if event.type == "image.started":
            if len(self._started) >= MAX_STARTED:
                self._started.pop(next(iter(self._started)))
            self._started[event.subject] = now_s
            self._peaks.append((now_s, self._in_work(now_s)))
        elif event.type in FINAL_EVENTS or event.type == "image.queued":
            self._started.pop(event.subject, None)
        if isinstance(event, ImageChanged) and event.type == "image.completed" and isinstance(event.data, ImageView):
            seconds = event.data.generation_time
            if seconds is not None and seconds >= 0:
                self._times.append((now_s, seconds))

    def seconds_until(self, position: int) -> float | None:
        """About how many seconds pass until the image at this queue position starts; None without recent times."""
        now_s = self._clock.monotonic()
        times = [seconds for at_s, seconds in self._times if now_s - at_s <= WINDOW_S]
        if not times:
            return None
        concurrency = max([count for at_s, count in self._peaks if now_s - at_s <= WINDOW_S], default=1)
        return round(position * (sum(times) / len(times)) / max(1, concurrency), 1)

    def _in_work(self, now_s: float) -> int:
        return sum(now_s - at_s <= WINDOW_S for at_s in self._started.values())
