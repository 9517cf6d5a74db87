"""The positions of images in the queues of their pools: one query for all websockets, only while an image waits.

    store ──waiting──▶ QueuePositions ──{"type": "places", "places": {"<id>": 3}}──▶ the websockets of each owner
                         ▲
    hello, events ──▶ OwnerPositions: the queued images of one owner

A position is no event of the bus: it changes with every image that is claimed, and its frame has no cursor.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from common.application.fleet.reader import Fleet
from common.application.fleet.view import FleetView
from common.domain.errors import Unavailable
from common.domain.images import Image
from common.domain.pools import DEFAULT_POOL
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
SecondsUntil = Callable[[str, int], float | None]  # of the image with this id at this position


async def queue_position(
    image: Image, *, store: Store, clock: Clock, slots: int = 0, view: FleetView | None = None
) -> int | None:
    """The position of a queued image in its pool: 1 is the next, `MAX_POSITION` is any beyond the ranked ones.

    That of an image which waits for its turn is an estimate. None if the image is not queued, waits for a retry or for
    a generator, or the store is unavailable: no answer fails for that.
    """
    try:
        if image.is_waiting:
            return await _estimate(image, store, slots, view)
        since = image.queued_since
        if since is None or since > clock.now():
            return None
        return 1 + await store.count_queued_before(since, image.id, limit=MAX_RANKED, pool=image.work_pool)
    except Unavailable as error:
        log.debug("queue position unknown: %s", error)
        return None


async def _estimate(image: Image, store: Store, slots: int, view: FleetView | None) -> int | None:
    if view is not None and not view.is_live(image.model):
        return None
    in_line = await store.waiting_line(image.owner, limit=MAX_RANKED)
    pool = _pool_of(image.model, view)
    ahead = {pool: await store.count_dispatched(limit=MAX_RANKED, pool=pool)}
    # one that is not in a line with an end was dispatched meanwhile
    beyond = MAX_POSITION if len(in_line) == MAX_RANKED else None
    return estimates(in_line, dispatched=ahead, slots=slots, view=view).get(image.id, beyond)


def estimates(
    in_line: Mapping[str, str], *, dispatched: Mapping[str, int], slots: int, view: FleetView | None = None
) -> dict[str, int]:
    """About which positions the waiting images of one owner have, by id; the line gives the model of each.

    With each turn of the owner, `slots` of its images are dispatched, each behind all that are dispatched to its pool
    then: about as many as now, which is what `dispatched` says for some pools. An image whose model has no live
    generator has no turn.
    """
    found = {}
    number = 0
    for image_id, model in in_line.items():
        if view is not None and not view.is_live(model):
            continue
        number += 1
        turn = -(-number // slots) if slots else 1
        if (ahead := dispatched.get(_pool_of(model, view))) is not None:
            found[image_id] = min(MAX_POSITION, ahead * turn + 1)
    return found


def _pool_of(model: str, view: FleetView | None) -> str:
    return DEFAULT_POOL if view is None else view.pool_of(model)


class OwnerPositions:
    """The queued images of one owner, and the positions and ids of estimates that each websocket was sent last."""

    def __init__(self, wake: Callable[[], None], seconds_until: SecondsUntil = lambda _id, _position: None) -> None:
        self.sent: dict[SendFrame, tuple[dict[str, int], frozenset[str]]] = {}
        self.queued: dict[str, datetime] = {}  # image id to the time since which it is in the queue
        self.waiting: set[str] = set()  # ids of images that wait for their turn
        self._seconds_until = seconds_until
        self._wake = wake
        self._found: dict[str, int] = {}

    @property
    def has_queued(self) -> bool:
        return bool(self.queued or self.waiting)

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

    def update(
        self,
        positions: dict[str, int],
        now: datetime,
        estimated: Mapping[str, int] | None = None,
        *,
        in_line: Collection[str] = (),
    ) -> None:
        """Send the positions to each websocket that was sent others; each frame holds all of them.

        `estimated` holds those of the owner's waiting images, of which `in_line` are the first.
        """
        found = {}
        for image_id, since in self.queued.items():
            position = positions.get(image_id)
            # an image that was ranked and is no longer was claimed, and its event will follow
            if position is None and len(positions) >= MAX_RANKED and since <= now and self._was_beyond(image_id):
                position = MAX_POSITION
            if position is not None:
                found[image_id] = position
        self._found = found
        line = estimated or {}
        beyond = self.waiting - set(in_line) if len(in_line) == MAX_RANKED else ()
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
        seconds = {image_id: self._seconds_until(image_id, place) for image_id, place in places.items()}
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
        self,
        store: Store,
        live: LiveEvents,
        times: RecentTimes,
        clock: Clock,
        *,
        interval_s: float,
        slots: int = 0,
        fleet: Fleet | None = None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._view: FleetView | None = None
        self._pools: dict[str, str] = {}  # of the images whose positions were found last, by id
        self._slots = slots
        self._times = times
        self._live = live
        self._clock = clock
        self._interval_s = interval_s
        self._owners: dict[str, OwnerPositions] = {}
        self._queued: set[str] = set()  # owners that have queued images, or had some at the last update
        self._changed = asyncio.Event()

    @contextmanager
    def subscribed(self, owner: str, send: SendFrame) -> Iterator[None]:
        """Send a websocket the positions of its owner's queued images from now on."""
        positions = self._owners.setdefault(owner, OwnerPositions(self._changed.set, self._seconds_until))
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
            self._queued.add(owner)

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
                if any(positions.has_queued for positions in self._owners_with_queued().values()):
                    self._changed.set()
                await asyncio.sleep(self._interval_s)

    def _on_event(self, event: ClientEvent) -> None:
        self._times.on_event(event.event)
        if positions := self._owners.get(event.event.owner):
            positions.on_event(event.event)
            if positions.has_queued:
                self._queued.add(event.event.owner)

    def _owners_with_queued(self) -> dict[str, OwnerPositions]:
        return {owner: known for owner in self._queued if (known := self._owners.get(owner))}

    def _seconds_until(self, image_id: str, position: int) -> float | None:
        return self._times.seconds_until(position, view=self._view, pool=self._pools.get(image_id))

    async def _update(self) -> None:
        self._view = await self._fleet.current() if self._fleet is not None else None
        ranked, self._pools = dict[str, int](), {}
        now = self._clock.now()
        owners = self._owners_with_queued()
        has_queued = any(positions.has_queued for positions in owners.values())
        for pool in await self._store.queued_pools() if has_queued else ():
            ids = await self._store.queued_ids(now, limit=MAX_RANKED, pool=pool)
            ranked |= {image_id: position for position, image_id in enumerate(ids, 1)}
            self._pools |= dict.fromkeys(ids, pool)
        waiting = [owner for owner, positions in owners.items() if positions.waiting]
        in_line = {owner: await self._store.waiting_line(owner, limit=MAX_RANKED) for owner in waiting}
        of_waiting = {
            image_id: _pool_of(model, self._view) for line in in_line.values() for image_id, model in line.items()
        }
        self._pools |= of_waiting
        dispatched = {
            pool: await self._store.count_dispatched(limit=MAX_RANKED, pool=pool) for pool in set(of_waiting.values())
        }
        # of an owner whose images came meanwhile, the next update tells
        for owner, positions in owners.items():
            line = in_line.get(owner, {})
            estimated = estimates(line, dispatched=dispatched, slots=self._slots, view=self._view)
            positions.update(ranked, now, estimated, in_line=line)
        self._queued = {owner for owner, positions in self._owners_with_queued().items() if positions.has_queued}
