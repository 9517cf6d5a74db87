"""Who stands where in the queue of all owners: one look at the store for all websockets, and only while one waits.

    store ──waiting──▶ Places ──{"type": "places", "places": {"<id>": 3}}──▶ each websocket, of its owner's images only
                         ▲
    hello, events ──▶ Waiting: which images an owner waits for

A place is no event of the bus: every image that is taken changes it, and what says it has no cursor.
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

MAX_RANKED: Final = 1000  # places; a look at so many takes a store a millisecond or few, however long the queue is
MAX_POSITION: Final = MAX_RANKED + 1  # told of all that stand further back
SendFrame = Callable[[str], None]


class OwnerPositions:
    """What one owner waits for, and which places each of its websockets was told last."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.told: dict[SendFrame, dict[str, int]] = {}
        self.since: dict[str, datetime] = {}
        self._wake = wake
        self._found: dict[str, int] = {}

    def expect(self, images: Iterable[Image]) -> None:
        """Take up those of a snapshot that are queued."""
        for image in images:
            if image.waits_since is not None:
                self._add(image.id, image.waits_since)

    def on_event(self, event: AnyImageEvent) -> None:
        if isinstance(event, ImageChanged) and event.type == "image.queued" and isinstance(event.data, ImageView):
            self._add(event.subject, event.data.retry_at or event.data.created_at)
        elif self.since.pop(event.subject, None):
            self._wake()

    def look(self, queue_positions: dict[str, int], now: datetime) -> None:
        """Tell the places where they are not what was told last; each frame holds all of them."""
        found = {}
        for image_id, since in self.since.items():
            place = queue_positions.get(image_id)
            # one that had a place and has none was taken, and the event of it is under way
            if place is None and len(queue_positions) == MAX_RANKED and since <= now and self._stood_beyond(image_id):
                place = MAX_POSITION
            if place is not None:
                found[image_id] = place
        self._found = found
        news = [tell for tell, told in self.told.items() if told != found]
        frame = json.dumps({"type": "places", "places": found}, separators=(",", ":")) if news else ""
        for tell in news:
            self.told[tell] = found
            tell(frame)

    def _stood_beyond(self, image_id: str) -> bool:
        return self._found.get(image_id, MAX_POSITION) == MAX_POSITION

    def _add(self, image_id: str, since: datetime) -> None:
        if image_id in self.since or len(self.since) < MAX_RANKED:  # limits keep an owner far below
            self.since[image_id] = since
            self._wake()


class QueuePositions:
    """Of one api replica; `run` is the task that hears and looks."""

    def __init__(self, store: Store, live: LiveEvents, clock: Clock, *, interval_s: float) -> None:
        self._store = store
        self._live = live
        self._clock = clock
        self._interval_s = interval_s
        self._owners: dict[str, OwnerPositions] = {}
        self._news = asyncio.Event()

    @contextmanager
    def subscribed(self, owner: str, tell: SendFrame) -> Iterator[None]:
        """Tell a websocket the places of what its owner waits for, from now on."""
        waiting = self._owners.setdefault(owner, OwnerPositions(self._news.set))
        waiting.told[tell] = {}
        try:
            yield
        finally:
            del waiting.told[tell]
            if not waiting.told:
                self._owners.pop(owner, None)

    def expect(self, owner: str, images: Iterable[Image]) -> None:
        """What a websocket was shown as in flight."""
        if waiting := self._owners.get(owner):
            waiting.expect(images)

    async def run(self) -> None:
        """Look again and again while somebody waits, else sleep until somebody does; never returns."""
        async with self._live.subscribed(None, self._on_event):
            while True:
                await self._news.wait()
                self._news.clear()
                try:
                    await self._look()
                except Unavailable as error:
                    log.debug("places are not known: %s", error)
                if self._is_awaited:
                    self._news.set()
                await asyncio.sleep(self._interval_s)

    async def place(self, image: Image) -> int | None:
        """Of a queued image: 1 is next, `MAX_POSITION` all behind the last that is told apart.

        None where it does not wait, waits for its retry, or the store does not say: no answer fails for want of it.
        """
        since = image.waits_since
        if since is None or since > self._clock.now():
            return None
        try:
            return 1 + await self._store.waiting_before(since, image.id, limit=MAX_RANKED)
        except Unavailable as error:
            log.debug("the place is not known: %s", error)
            return None

    def _on_event(self, shown: ClientEvent) -> None:
        if waiting := self._owners.get(shown.event.owner):
            waiting.on_event(shown.event)

    @property
    def _is_awaited(self) -> bool:
        return any(waiting.since for waiting in self._owners.values())

    async def _look(self) -> None:
        queue_positions: dict[str, int] = {}
        now = self._clock.now()
        if self._is_awaited:
            ids = await self._store.waiting(now, limit=MAX_RANKED)
            queue_positions = {image_id: place for place, image_id in enumerate(ids, 1)}
        for waiting in list(self._owners.values()):
            waiting.look(queue_positions, now)
