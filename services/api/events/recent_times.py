"""How long an image will wait, from the painting times of the last minutes and the concurrency of its pool.

The times are those of the events that this replica has read. Without recent ones nothing is estimated.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from common.application.fleet.view import FleetView
from common.domain.pools import DEFAULT_POOL
from common.domain.views import ImageView
from common.messages import FINAL_EVENTS, AnyImageEvent, ImageChanged
from common.runtime.clock import Clock

WINDOW_S: Final = 600.0  # older times say little about the present load
MAX_TIMES: Final = 200
MAX_STARTED: Final = 10_000  # the end of a started image may be missed: the log was cut
MEANS_AGE_S: Final = 1.0  # each queued image asks for the mean of its pool, at each answer and each second


class RecentTimes:
    """Knows the images in work and the latest painting times; `on_event` takes every event."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: deque[tuple[float, float, str]] = deque(maxlen=MAX_TIMES)  # (when, seconds of painting, model)
        self._peaks: deque[tuple[float, int]] = deque(maxlen=MAX_TIMES)  # (when, images in work)
        self._started: dict[str, float] = {}
        self._means: dict[str | None, float | None] = {}  # by pool; None is all of them
        self._means_of: FleetView | None = None
        self._means_until_s = float("-inf")

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
                self._times.append((now_s, seconds, event.data.model_used))
                if None in self._means.values():  # the first time of a pool is shown at once
                    self._means.clear()

    def seconds_until(self, position: int, *, view: FleetView | None = None, pool: str | None = None) -> float | None:
        """About how many seconds pass until the image at this position in the queue of the pool starts.

        None without recent times of this pool, or without a live generator. Generators of older releases do not
        announce themselves: without a view that knows some, the images that were painted at once count.
        """
        now_s = self._clock.monotonic()
        known = view if view is not None and view.is_known and pool is not None else None
        mean_s = self._mean_s(now_s, known, pool if known is not None else None)
        concurrency = self._most_at_once(now_s) if known is None else known.concurrency(pool or DEFAULT_POOL)
        if mean_s is None or not concurrency:
            return None
        return round(position * mean_s / concurrency, 1)

    def _mean_s(self, now_s: float, view: FleetView | None, pool: str | None) -> float | None:
        if view is not self._means_of or now_s >= self._means_until_s:
            self._means.clear()
            self._means_of, self._means_until_s = view, now_s + MEANS_AGE_S
        if pool not in self._means:
            recent = [(seconds, model) for at_s, seconds, model in self._times if now_s - at_s <= WINDOW_S]
            if view is not None:
                of_pool = {model for model in {model for _, model in recent} if view.pool_of(model) == pool}
                recent = [each for each in recent if each[1] in of_pool]
            self._means[pool] = sum(seconds for seconds, _ in recent) / len(recent) if recent else None
        return self._means[pool]

    def _most_at_once(self, now_s: float) -> int:
        return max(1, *(count for at_s, count in self._peaks if now_s - at_s <= WINDOW_S), 0)

    def _in_work(self, now_s: float) -> int:
        return sum(now_s - at_s <= WINDOW_S for at_s in self._started.values())
