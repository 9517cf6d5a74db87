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
from collections.abc import Callable, Iterable, Iterator
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

log = logging.getLogger(__name__)

MAX_RANKED: Final = 1000  # images; to query so many takes a store one or a few milliseconds, however long the queue is
MAX_POSITION: Final = MAX_RANKED + 1  # the position of all images behind them
SendFrame = Callable[[str], None]


async def queue_position(image: Image, *, store: Store, clock: Clock) -> int | None:
    """The position of a queued image: 1 is the next, `MAX_POSITION` is any position beyond the ranked ones.

    None if the image is not queued, waits for a retry, or the store is unavailable: no answer fails for that.
    """
    since = image.queued_since
    if since is None or since > clock.now():
        return None
    try:
        return 1 + await store.count_queued_before(since, image.id, limit=MAX_RANKED)
    except Unavailable as error:
        log.debug("queue position unknown: %s", error)
        return None


class OwnerPositions:
    """The queued images of one owner, and the positions that each of its websockets was sent last."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.sent: dict[SendFrame, dict[str, int]] = {}
        self.queued: dict[str, datetime] = {}  # image id to the time since which it is queued
        self._wake = wake
        self._found: dict[str, int] = {}

    def add_queued(self, images: Iterable[Image]) -> None:
        """Add those of the images that are queued."""
        for image in images:
            if image.queued_since is not None:
                self._add(image.id, image.queued_since)

    def on_event(self, event: AnyImageEvent) -> None:
        if isinstance(event, ImageChanged) and event.type == "image.queued" and isinstance(event.data, ImageView):
            self._add(event.subject, event.data.retry_at or event.data.created_at)
        elif self.queued.pop(event.subject, None):
            self._wake()

    def update(self, positions: dict[str, int], now: datetime) -> None:
        """Send the positions to each websocket that was sent others; each frame holds all of them."""
        found = {}
        for image_id, since in self.queued.items():
            position = positions.get(image_id)
            # an image that was ranked and is no longer was claimed, and its event will follow
            if position is None and len(positions) == MAX_RANKED and since <= now and self._was_beyond(image_id):
                position = MAX_POSITION
            if position is not None:
                found[image_id] = position
        self._found = found
        changed = [send for send, sent in self.sent.items() if sent != found]
        frame = json.dumps({"type": "places", "places": found}, separators=(",", ":")) if changed else ""
        for send in changed:
            self.sent[send] = found
            send(frame)

    def _was_beyond(self, image_id: str) -> bool:
        return self._found.get(image_id, MAX_POSITION) == MAX_POSITION

    def _add(self, image_id: str, since: datetime) -> None:
        if image_id in self.queued or len(self.queued) < MAX_RANKED:  # limits keep an owner far below
            self.queued[image_id] = since
            self._wake()


class QueuePositions:
    """Sends positions to the websockets of one api process; `run` is the task that queries the store."""

    def __init__(self, store: Store, live: LiveEvents, clock: Clock, *, interval_s: float) -> None:
        self._store = store
        self._live = live
        self._clock = clock
        self._interval_s = interval_s
        self._owners: dict[str, OwnerPositions] = {}
        self._changed = asyncio.Event()

    @contextmanager
    def subscribed(self, owner: str, send: SendFrame) -> Iterator[None]:
        """Send a websocket the positions of its owner's queued images from now on."""
        positions = self._owners.setdefault(owner, OwnerPositions(self._changed.set))
        positions.sent[send] = {}
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
        if positions := self._owners.get(event.event.owner):
            positions.on_event(event.event)

    @property
    def _has_queued(self) -> bool:
        return any(positions.queued for positions in self._owners.values())

    async def _update(self) -> None:
        ranked: dict[str, int] = {}
        now = self._clock.now()
        if self._has_queued:
            ids = await self._store.queued_ids(now, limit=MAX_RANKED)
            ranked = {image_id: position for position, image_id in enumerate(ids, 1)}
        for positions in list(self._owners.values()):
            positions.update(ranked, now)
