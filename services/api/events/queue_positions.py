"""The positions of images in the queue of all owners: one query for all websockets, only while an image waits.

    store ──waiting──▶ QueuePositions ──{"type": "places", "places": {"<id>": 3}}──▶ the websockets of each owner
                         ▲
    hello, events ──▶ OwnerPositions: the queued images of one owner

A position is no event of the bus: it changes with every image that is claimed, and its frame has no cursor.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from common.domain.errors import Unavailable
from common.domain.images import Image
from common.domain.views import ImageView
from common.messages import AnyImageEvent, ImageChanged
from common.runtime.clock import Clock
from common.store.port import Store
from services.api.events.live import ClientEvent, LiveEvents
from services.api.events.recent_times import RecentTimes

log = logging.getLogger(__name__)

MAX_RANKED: Final = 1000  # images; to query so many takes a store one or a few milliseconds, however long the queue is
MAX_POSITION: Final = MAX_RANKED + 1  # the position of all images behind them
SendFrame = Callable[[str], None]


async def queue_position(image: Image, *, store: Store, clock: Clock, slots: int = 0) -> int | None:
    """The position of a queued image: 1 is the next, `MAX_POSITION` is any position beyond the ranked ones.

    That of an image which waits for its turn is an estimate. None if the image is not queued, waits for a retry, or the
    store is unavailable: no answer fails for that.
    """
    try:
        if image.is_waiting:
            in_line = await store.waiting_ids(image.owner, limit=MAX_RANKED)
            ahead = await store.count_dispatched(limit=MAX_RANKED)
            # one that is not in a line with an end was dispatched meanwhile
            beyond = MAX_POSITION if len(in_line) == MAX_RANKED else None
            return estimates(in_line, dispatched=ahead, slots=slots).get(image.id, beyond)
        since = image.queued_since
        if since is None or since > clock.now():
            return None
        return 1 + await store.count_queued_before(since, image.id, limit=MAX_RANKED)
    except Unavailable as error:
        log.debug("queue position unknown: %s", error)
        return None


def estimates(in_line: Sequence[str], *, dispatched: int, slots: int) -> dict[str, int]:
    """About which positions the waiting images of one owner have, by id.

    With each turn of the owner, `slots` of its images are dispatched, behind all that are dispatched then: about as
    many as now.
    """
    found = {}
    for number, image_id in enumerate(in_line, 1):
        turn = -(-number // slots) if slots else 1
        found[image_id] = min(MAX_POSITION, dispatched * turn + 1)
    return found


class OwnerPositions:
    """The queued images of one owner, and the positions and ids of estimates that each websocket was sent last."""

    def __init__(self, wake: Callable[[], None], times: RecentTimes | None = None) -> None:
        self.sent: dict[SendFrame, tuple[dict[str, int], frozenset[str]]] = {}
        self.queued: dict[str, datetime] = {}  # image id to the time since which it is in the queue
        self.waiting: set[str] = set()  # ids of images that wait for their turn
        self._times = times
        self._wake = wake
        self._found: dict[str, int] = {}

    def add_queued(self, images: Iterable[Image]) -> None:
        """Add those of the images that are queued."""
        for image in images:
            if image.is_waiting:
                self._add_waiting(image.id)
            elif image.queued_since is not None:
                self._add(image.id, image.queued_since)

    def on_event(self, event: AnyImageEvent) -> None:
        if isinstance(event, ImageChanged) and event.type == "image.queued" and isinstance(event.data, ImageView):
            view = event.data
            if view.waiting_since is not None:
                self._add_waiting(event.subject)
            else:
                self._add(event.subject, view.retry_at or view.dispatched_at or view.created_at)
        elif event.subject in self.queued or event.subject in self.waiting:
            self.queued.pop(event.subject, None)
            self.waiting.discard(event.subject)
            self._wake()

    def update(self, positions: dict[str, int], now: datetime, estimated: Mapping[str, int] | None = None) -> None:
        """Send the positions to each websocket that was sent others; each frame holds all of them.

        `estimated` holds those of the owner's waiting images.
        """
        found = {}
        for image_id, since in self.queued.items():
            position = positions.get(image_id)
            # an image that was ranked and is no longer was claimed, and its event will follow
            if position is None and len(positions) == MAX_RANKED and since <= now and self._was_beyond(image_id):
                position = MAX_POSITION
            if position is not None:
                found[image_id] = position
        self._found = found
        line = estimated or {}
        beyond = self.waiting if len(line) == MAX_RANKED else ()
        waiting = {**dict.fromkeys(beyond, MAX_POSITION), **{each: line[each] for each in line if each in self.waiting}}
        places = {**found, **waiting}
        told = (places, frozenset(waiting))
        changed = [send for send, sent in self.sent.items() if sent != told]
        frame = self._frame(places, waiting) if changed else ""
        for send in changed:
            self.sent[send] = told
            send(frame)

    def _was_beyond(self, image_id: str) -> bool:
        return self._found.get(image_id, MAX_POSITION) == MAX_POSITION

    def _frame(self, places: dict[str, int], estimated: Iterable[str]) -> str:
        """A frame names the estimates, and the seconds until each image starts, if there are any."""
        frame: dict[str, object] = {"type": "places", "places": places}
        if ids := list(estimated):
            frame["estimated"] = ids
        seconds = {image_id: self._times and self._times.seconds_until(place) for image_id, place in places.items()}
        if any(each is not None for each in seconds.values()):
            frame["estimatedSeconds"] = seconds
        return json.dumps(frame, separators=(",", ":"))

    def _add_waiting(self, image_id: str) -> None:
        self.queued.pop(image_id, None)
        if len(self.waiting) < MAX_RANKED:
            self.waiting.add(image_id)
            self._wake()

    def _add(self, image_id: str, since: datetime) -> None:
        self.waiting.discard(image_id)
        if image_id in self.queued or len(self.queued) < MAX_RANKED:  # limits keep an owner far below
            self.queued[image_id] = since
            self._wake()


class QueuePositions:
    """Sends positions to the websockets of one api process; `run` is the task that queries the store."""

    def __init__(
        self, store: Store, live: LiveEvents, times: RecentTimes, clock: Clock, *, interval_s: float, slots: int = 0
    ) -> None:
        self._store = store
        self._slots = slots
        self._times = times
        self._live = live
        self._clock = clock
        self._interval_s = interval_s
        self._owners: dict[str, OwnerPositions] = {}
        self._changed = asyncio.Event()

    @contextmanager
    def subscribed(self, owner: str, send: SendFrame) -> Iterator[None]:
        """Send a websocket the positions of its owner's queued images from now on."""
        positions = self._owners.setdefault(owner, OwnerPositions(self._changed.set, self._times))
        positions.sent[send] = ({}, frozenset())
        try:
            yield
        finally:
            del positions.sent[send]
            if not positions.sent:
                self._owners.pop(owner, None)

    def add_queued(self, owner: str, images: Iterable[Image]) -> None:
        """Take up the queued images of a websocket's first frame."""
        if positions := self._owners.get(owner):
            positions.add_queued(images)

    async def run(self) -> None:
        """Query at each interval while an image waits; never returns."""
        async with self._live.subscribed(None, self._on_event):
            while True:
                await self._changed.wait()
                self._changed.clear()
                try:
                    await self._update()
                except Unavailable as error:
                    log.debug("queue positions unknown: %s", error)
                if self._has_queued:
                    self._changed.set()
                await asyncio.sleep(self._interval_s)

    def _on_event(self, event: ClientEvent) -> None:
        self._times.on_event(event.event)
        if positions := self._owners.get(event.event.owner):
            positions.on_event(event.event)

    @property
    def _has_queued(self) -> bool:
        return any(positions.queued or positions.waiting for positions in self._owners.values())

    async def _update(self) -> None:
        ranked: dict[str, int] = {}
        now = self._clock.now()
        if self._has_queued:
            ids = await self._store.queued_ids(now, limit=MAX_RANKED)
            ranked = {image_id: position for position, image_id in enumerate(ids, 1)}
        waiting = {owner: positions for owner, positions in self._owners.items() if positions.waiting}
        dispatched = await self._store.count_dispatched(limit=MAX_RANKED) if waiting else 0
        in_line = {owner: await self._store.waiting_ids(owner, limit=MAX_RANKED) for owner in waiting}
        for owner, positions in list(self._owners.items()):
            estimated = estimates(in_line.get(owner, ()), dispatched=dispatched, slots=self._slots)
            positions.update(ranked, now, estimated)
