"""What a replica knows of the event log: which events it has seen of each image, and how far back that reaches.

log ──── not known ────┤ border ├──── read: the newest revision of each image, and where each event stood first ───▶
            ▲                                                             │
            └───── reached back to, once, for an event whose fact is older ◀──┘
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from common.bus.port import Bus, Logged, Since
from common.domain.errors import ServiceError
from common.domain.views import ImageView
from common.messages import AnyImageEvent, Event, ImageChanged, ImageDeleted, ImageProgressed

log = logging.getLogger(__name__)

MAX_SEEN_IMAGES: Final = 100_000  # whose newest revision is remembered: about 20 MB
CLOCK_MARGIN: Final = timedelta(seconds=10)  # between the clocks of who tells, of the broker and of this replica
LOOK_BACK_S: Final = 10.0  # for a look back, which holds up what is live: some 50,000 events on RabbitMQ


@dataclass(slots=True)
class Seen:
    """The newest of one image that the log has shown."""

    revision: int = -1
    ids: dict[str, str] = field(default_factory=dict)  # event id to the cursor it first had


class SeenEvents:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._images: OrderedDict[str, Seen] = OrderedDict()
        self._covered_since = datetime.max.replace(tzinfo=UTC)
        self._first = ""  # the cursors of the first entry after the border, and of the last that was read
        self._last = ""
        self._looking_back = asyncio.Lock()

    def restart(self, moment: datetime) -> None:
        """The log is read from this moment on; there may be a hole before it."""
        self._covered_since, self._first = moment, ""

    def advance(self, cursor: str) -> None:
        """The reader has come to this entry."""
        self._first, self._last = self._first or cursor, cursor

    def is_repeat(self, event: AnyImageEvent, cursor: str) -> bool:
        """True for what clients have seen, or what is older than what they have seen of this image; else noted."""
        seen = self._images.setdefault(event.subject, Seen())
        self._images.move_to_end(event.subject)
        if len(self._images) > MAX_SEEN_IMAGES:
            self._images.popitem(last=False)
        if event.revision < seen.revision or event.id in seen.ids:
            return True
        seen.revision = event.revision
        if not isinstance(event, ImageProgressed):
            seen.ids[event.id] = cursor
        return False

    def is_first(self, event: AnyImageEvent, cursor: str) -> bool:
        """Of an entry that is read a second time: was it the first of its event?"""
        seen = self._images.get(event.subject)
        return seen is None or seen.ids.get(event.id) == cursor

    async def look_back_for(self, event: Event) -> None:
        """Where this event may stand in the log from before the border, look there; what is found moves the border.

        So it costs one look, and the next such event none. What the log no longer holds, or does not give in time,
        stays unknown, and its repeat is shown.
        """
        told = _earliest_publish_time(event)
        if told is None or self._covers(told) or not self._first:  # without a border there is no end to a look
            return
        async with self._looking_back:
            if not self._covers(told):
                await self._look_back(told - CLOCK_MARGIN)

    def _covers(self, moment: datetime) -> bool:
        return moment - CLOCK_MARGIN >= self._covered_since

    async def _look_back(self, moment: datetime) -> None:
        border, first, ends = self._covered_since, "", {self._first, self._last}
        log.info("looking back in the event log to %s, it was known since %s", moment, border)
        try:
            async with asyncio.timeout(LOOK_BACK_S), aclosing(self._bus.read(Since(moment))) as entries:
                async for entry in entries:
                    first = first or entry.cursor
                    if entry.cursor in ends:
                        break
                    self._note(entry)
        except (ServiceError, TimeoutError) as error:
            log.warning("what the event log held before %s is not known: %r", border, error)
        if self._covered_since == border:  # else the reader has begun anew meanwhile
            self._covered_since, self._first = moment, first or self._first

    def _note(self, entry: Logged) -> None:
        event = entry.event
        if not isinstance(event, ImageChanged | ImageDeleted):
            return
        seen = self._images.get(event.subject)
        if seen is None:
            if len(self._images) >= MAX_SEEN_IMAGES:
                return  # the newer ones are worth more
            seen = self._images[event.subject] = Seen()
            self._images.move_to_end(event.subject, last=False)
        seen.revision = max(seen.revision, event.revision)
        seen.ids.setdefault(event.id, entry.cursor)


def _earliest_publish_time(event: Event) -> datetime | None:
    """The earliest time at which this event can have been told; None of one that is never told again."""
    match event:
        case ImageChanged(type="image.queued", data=ImageView(started_at=started_at, created_at=created_at)):
            return started_at or created_at  # its `time` is when it was told; it queues since the last attempt
        case ImageChanged() | ImageDeleted():
            return event.time
        case _:
            return None
