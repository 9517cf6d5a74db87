"""The events that a replica has seen in the log, to recognise repeats.

log ── not covered ──┤ covered since ├── the newest revision of each image, and the first cursor of each event ──▶
            ▲                                                             │
            └──── looked back to, once, for an event of an earlier time ◀─┘
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

MAX_SEEN_IMAGES: Final = 100_000  # about 20 MB
CLOCK_MARGIN: Final = timedelta(seconds=10)  # between the clocks of the publisher, the broker and this replica
LOOK_BACK_S: Final = 10.0  # it holds up live events; enough for some 50,000 events on RabbitMQ


@dataclass(slots=True)
class SeenImage:
    """What the log has shown of one image."""

    revision: int = -1
    cursors: dict[str, str] = field(default_factory=dict)  # event id to the cursor of its first entry


class SeenEvents:
    """The events seen by the reader of one replica; the oldest images are forgotten first."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._images: OrderedDict[str, SeenImage] = OrderedDict()
        self._covered_since = datetime.max.replace(tzinfo=UTC)
        self._first = ""  # the cursors of the first entry that is covered, and of the last that was read
        self._last = ""
        self._looking_back = asyncio.Lock()

    def restart(self, moment: datetime) -> None:
        """The reader starts at this moment; events before it may be unknown."""
        self._covered_since, self._first = moment, ""

    def advance(self, cursor: str) -> None:
        """The reader has reached this entry."""
        self._first, self._last = self._first or cursor, cursor

    def observe(self, event: AnyImageEvent, cursor: str) -> bool:
        """Record the event; True if it is new: not seen before, and not older than what was seen of its image."""
        seen = self._images.setdefault(event.subject, SeenImage())
        self._images.move_to_end(event.subject)
        if len(self._images) > MAX_SEEN_IMAGES:
            self._images.popitem(last=False)
        if event.revision < seen.revision or event.id in seen.cursors:
            return False
        seen.revision = event.revision
        if not isinstance(event, ImageProgressed):
            seen.cursors[event.id] = cursor
        return True

    def is_first(self, event: AnyImageEvent, cursor: str) -> bool:
        """Whether an entry that is read a second time was the first of its event."""
        seen = self._images.get(event.subject)
        return seen is None or seen.cursors.get(event.id) == cursor

    async def look_back_for(self, event: Event) -> None:
        """Read an earlier part of the log if this event may have been published there before.

        That part is covered from then on, so the next such event needs no look back. Events that the log no longer
        holds, or does not return in time, stay unknown: their repeats are shown.
        """
        published = _earliest_publish_time(event)
        if published is None or self._covers(published) or not self._first:  # nothing would end the look back
            return
        async with self._looking_back:
            if not self._covers(published):
                await self._look_back(published - CLOCK_MARGIN)

    def _covers(self, moment: datetime) -> bool:
        return moment - CLOCK_MARGIN >= self._covered_since

    async def _look_back(self, moment: datetime) -> None:
        before, first, ends = self._covered_since, "", {self._first, self._last}
        log.info("looking back in the event log to %s, it was covered since %s", moment, before)
        try:
            async with asyncio.timeout(LOOK_BACK_S), aclosing(self._bus.read(Since(moment))) as entries:
                async for entry in entries:
                    first = first or entry.cursor
                    if entry.cursor in ends:
                        break
                    self._record(entry)
        except (ServiceError, TimeoutError) as error:
            log.warning("events before %s are unknown: %r", before, error)
        if self._covered_since == before:  # else the reader has restarted meanwhile
            self._covered_since, self._first = moment, first or self._first

    def _record(self, entry: Logged) -> None:
        event = entry.event
        if not isinstance(event, ImageChanged | ImageDeleted):
            return
        seen = self._images.get(event.subject)
        if seen is None:
            if len(self._images) >= MAX_SEEN_IMAGES:
                return  # newer images are more useful
            seen = self._images[event.subject] = SeenImage()
            self._images.move_to_end(event.subject, last=False)
        seen.revision = max(seen.revision, event.revision)
        seen.cursors.setdefault(event.id, entry.cursor)


def _earliest_publish_time(event: Event) -> datetime | None:
    """The earliest time at which this event can have been published; None if it is never published twice."""
    match event:
        case ImageChanged(type="image.queued", data=ImageView() as view):
            # `time` is that of this publish; it is queued since the last attempt, or since its turn
            return view.started_at or view.dispatched_at or view.created_at
        case ImageChanged() | ImageDeleted():
            return event.time
        case _:
            return None
