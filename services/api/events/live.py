"""The live events of one api process: one reader of the log, for all websockets and all waiting requests.

    event log ──▶ reader ──▶ deduplication ──▶ buffer ──▶ websockets of the owner
                                                   └────▶ requests that wait for an image (`waits`)

The reader starts some time in the past, so that it knows the events before a client's cursor (`deduplication` looks
further back if it must). It has caught up when it reads the mark that it published itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from itertools import islice
from typing import Final

from common.bus.port import After, Bus, Logged, Since, Start
from common.bus.traced import span_of_delivery
from common.domain.errors import CursorGone, ServiceError, Unavailable
from common.domain.images import new_image_id
from common.domain.views import iso
from common.messages import FINAL_EVENTS, AnyImageEvent, ApiJoined, ImageEvent, ImageProgressed
from common.runtime import metrics
from common.runtime.clock import Clock
from services.api.events.deduplication import SeenEvents
from services.api.events.frames import text_frame

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0


@dataclass(frozen=True)
class ClientEvent:
    """An event as clients see it. Its frame is made once for all websockets."""

    cursor: str
    event: AnyImageEvent
    data: Callable[[AnyImageEvent], object]  # makes the data of the frame

    @cached_property
    def frame(self) -> str:
        return json.dumps(
            {
                "cursor": self.cursor,
                "id": self.event.id,
                "type": self.event.type,
                "subject": self.event.subject,
                "time": iso(self.event.time),
                "revision": self.event.revision,
                "attempt": self.event.attempt,
                "data": self.data(self.event),
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @cached_property
    def wire_frame(self) -> bytes:
        """The frame as it leaves through a socket."""
        return text_frame(self.frame)

    @property
    def without_preview(self) -> ClientEvent:
        """For the buffer, which thousands of previews would fill; a client that resumes gets the next one."""
        event = self.event
        if not isinstance(event, ImageProgressed) or event.data.preview is None:
            return self
        data = event.data.model_copy(update={"preview": None})
        return replace(self, event=event.model_copy(update={"data": data}))

    @cached_property
    def is_progress(self) -> bool:
        return isinstance(self.event, ImageProgressed)

    @cached_property
    def key(self) -> str:
        """That of its place in a queue; newer progress of an image replaces older."""
        return f"progress {self.event.subject}" if self.is_progress else self.cursor


def plain(event: AnyImageEvent) -> object:
    """The data of an event as JSON values, with unsigned media URLs."""
    return event.data.model_dump(mode="json", by_alias=True)


class LiveEvents:
    """The events that this process has read from the log; `run` is the task that reads.

    `data` makes the data of a frame from an event. `on_final` is called with the id of each image that has ended.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        *,
        backlog: int,
        lookback_s: float,
        data: Callable[[AnyImageEvent], object] = plain,
        on_final: Callable[[str], None] = lambda _image_id: None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._lookback_s = lookback_s
        self._data = data
        self._on_final = on_final
        # all entries, shown or not: a client's cursor may be that of an entry which was not shown
        self._buffer: deque[tuple[str, ClientEvent | None]] = deque(maxlen=backlog)
        self._index: dict[str, int] = {}
        self._count = 0
        self._seen = SeenEvents(bus)
        self._listeners: dict[str | None, set[Callable[[ClientEvent], None]]] = {}
        self._marks: dict[str, asyncio.Event] = {}
        self._caught_up = asyncio.Event()
        self.cursor = ""

    @property
    def is_ready(self) -> bool:
        return self._caught_up.is_set()

    async def ready(self) -> None:
        await self._caught_up.wait()

    async def run(self) -> None:
        """Read the log for as long as the service lives; never returns."""
        start = self._restart()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._become_ready())
            while True:
                try:
                    async with aclosing(self._bus.read(start)) as entries:
                        async for entry in entries:
                            self._seen.advance(entry.cursor)
                            await self._seen.look_back_for(entry.event)
                            self._process(entry)
                except CursorGone as error:
                    log.warning("the event log was cut under the reader: %s", error)
                    self._buffer.clear()  # its entries are read again, and each is kept once
                    self._index.clear()
                    start = self._restart()
                except ServiceError as error:
                    log.warning("the event log cannot be read: %s", error)
                    start = After(self.cursor) if self.cursor else start
                    await asyncio.sleep(RETRY_S)

    def _restart(self) -> Start:
        moment = self._clock.now() - timedelta(seconds=self._lookback_s)
        self._seen.restart(moment)
        return Since(moment)

    async def _become_ready(self) -> None:
        await self.caught_up()
        self._caught_up.set()

    async def caught_up(self) -> None:
        """Return when all that the log holds now has been read: publish a mark, and wait until it is read."""
        mark = new_image_id(self._clock.now())
        read = self._marks[mark] = asyncio.Event()
        try:
            while not read.is_set():
                try:
                    await self._bus.publish(ApiJoined(id=mark, source="api", time=self._clock.now()))
                    await read.wait()
                except Unavailable as error:
                    log.debug("mark not published: %s", error)
                    await asyncio.sleep(RETRY_S)
        finally:
            del self._marks[mark]

    def _process(self, entry: Logged) -> None:
        event, client_event, is_new = entry.event, None, False
        if isinstance(event, ImageEvent):
            is_new = self._seen.observe(event, entry.cursor)
            # an event that is read again after the log was cut stays in the buffer for clients that resume
            client_event = ClientEvent(entry.cursor, event, self._data) if is_new else self._reread(entry)
        self._keep(entry.cursor, client_event and client_event.without_preview)
        if client_event is not None and is_new:
            self._deliver(client_event)
        elif mark := self._marks.get(event.id):
            mark.set()

    def _keep(self, cursor: str, client_event: ClientEvent | None) -> None:
        if len(self._buffer) == self._buffer.maxlen:
            self._index.pop(self._buffer[0][0], None)
        self._buffer.append((cursor, client_event))
        self._index[cursor] = self._count
        self._count += 1
        self.cursor = cursor

    def _deliver(self, client_event: ClientEvent) -> None:
        metrics.events_shown.labels(client_event.event.type).inc()
        of_owner = self._listeners.get(client_event.event.owner, ())
        if of_owner and not client_event.is_progress:
            with span_of_delivery(self._bus, client_event.event):
                self._pass_on(client_event, of_owner)
        else:
            self._pass_on(client_event, of_owner)
        if client_event.event.type in FINAL_EVENTS:
            self._on_final(client_event.event.subject)

    def _pass_on(self, client_event: ClientEvent, of_owner: Iterable[Callable[[ClientEvent], None]]) -> None:
        for on_event in [*of_owner, *self._listeners.get(None, ())]:
            on_event(client_event)

    def since(self, cursor: str) -> list[ClientEvent] | None:
        """The events in the buffer after the cursor; None if the cursor is not in the buffer."""
        index = self._index.get(cursor)
        if index is None:
            return None
        first = self._count - len(self._buffer)
        after = islice(self._buffer, index + 1 - first, None)
        return [client_event for _, client_event in after if client_event is not None]

    async def older(self, cursor: str) -> AsyncIterator[tuple[str, ClientEvent | None]]:
        """The entries of the log after the cursor, up to where the buffer begins; None for an entry not shown.

        Raises:
            CursorGone: the log no longer reaches back that far.
        """
        async with aclosing(self._bus.read(After(cursor))) as entries:
            async for entry in entries:
                await self._seen.look_back_for(entry.event)
                yield entry.cursor, self._reread(entry)
                if entry.cursor in self._index:
                    return

    def _reread(self, entry: Logged) -> ClientEvent | None:
        """The event of an entry that is read a second time, if that entry was the first of its event."""
        event = entry.event
        if not isinstance(event, ImageEvent):
            return None
        is_first = self._seen.is_first(event, entry.cursor)
        return ClientEvent(entry.cursor, event, self._data).without_preview if is_first else None

    @asynccontextmanager
    async def subscribed(self, owner: str | None, on_event: Callable[[ClientEvent], None]) -> AsyncIterator[None]:
        """Call `on_event` with each event of this owner from now on; None means all owners."""
        listeners = self._listeners.setdefault(owner, set())
        listeners.add(on_event)
        try:
            yield
        finally:
            listeners.discard(on_event)
            if not listeners:
                self._listeners.pop(owner, None)
