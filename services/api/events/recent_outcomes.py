"""How many images ended in the last minutes and how, by the events that this replica has read."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from datetime import datetime, timedelta
from typing import Final

from common.messages import FINAL_EVENTS, AnyImageEvent
from common.runtime.clock import Clock
from services.api.events.live import ClientEvent, LiveEvents

MINUTES: Final = 10  # a replica that starts reads as much of the event log
MAX_OUTCOMES: Final = 20_000  # 33 in a second; above it, older ones are not counted
COMPLETED: Final = ""  # in place of the code of a failure
CANCELLED: Final = "-"  # neither a picture nor a failure


class RecentOutcomes:
    """`run` is the task that counts; the time of an outcome is that of its event."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outcomes: deque[tuple[datetime, str]] = deque(maxlen=MAX_OUTCOMES)

    def on_event(self, event: AnyImageEvent) -> None:
        if event.type in FINAL_EVENTS and event.type != "image.deleted":
            self._outcomes.append((event.time, _outcome(event)))

    def pictures(self) -> list[int]:
        """The completed images of each of the last minutes, the oldest minute first."""
        ages = Counter(minutes for minutes, code in self._recent() if code == COMPLETED)
        return [ages[minutes] for minutes in reversed(range(MINUTES))]

    def failures(self) -> dict[str, int]:
        """The failed images of the last minutes by their code, most first."""
        return dict(Counter(code for _, code in self._recent() if code not in {COMPLETED, CANCELLED}).most_common())

    def _recent(self) -> list[tuple[int, str]]:
        """Each outcome with its age in whole minutes; one from the future, by another clock, is of now."""
        now = self._clock.now()
        ages = [(max(0, (now - at) // timedelta(minutes=1)), code) for at, code in self._outcomes]
        return [(minutes, code) for minutes, code in ages if minutes < MINUTES]

    async def run(self, live: LiveEvents) -> None:
        """Count for as long as the service lives; never returns."""

        def count(event: ClientEvent) -> None:
            self.on_event(event.event)

        async with live.subscribed(None, count):
            await asyncio.Event().wait()


def _outcome(event: AnyImageEvent) -> str:
    if event.type == "image.failed":
        return "unknown" if event.data.error is None else event.data.error.code
    return COMPLETED if event.type == "image.completed" else CANCELLED
