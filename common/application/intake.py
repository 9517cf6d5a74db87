"""Intake of requests: counted against an hourly quota, then inserted as records.

    request ─▶ quota of the hour ─▶ record: in a free slot, or in the line of its owner

The api takes in the requests of owners. The generator takes in the requests that other services publish as commands.
Both have a quota for each owner. The slots of an owner are the same for both.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.application.fleet.reader import Fleet
from common.application.fleet.view import FleetView
from common.application.quota_store import QuotaStore
from common.application.turns import next_in_turn
from common.domain import turns
from common.domain.batches import batch_ids, missing_members
from common.domain.errors import Duplicate, Invalid, LimitReached
from common.domain.images import Image
from common.domain.owners import parse_owner
from common.domain.pools import DEFAULT_POOL
from common.domain.quotas import Window
from common.domain.requests import GenerationRequest, new_image
from common.domain.turns import Line, free_keys
from common.messages import GenerateImage
from common.store.port import Store

_BUSY_RETRY_S: Final = 5.0  # an image takes seconds; which one ends first is not known
_KEYS_AT_ONCE: Final = 100  # looked up in one query
_TRIES: Final = 5  # of free places, before they are looked up again


@dataclass(frozen=True, slots=True)
class Intake:
    """Inserts the records of new images within the limits of their owner.

    `fleet` tells whether a generator lives that has a model; without it, every model is live.
    """

    quota: QuotaStore
    store: Store
    line: Line
    fleet: Fleet | None = None

    async def record(self, image: Image, *, quota_key: str, may_wait: bool = True) -> tuple[Image, Window]:
        """Count the images of a request, then insert them durably; returns the first and the window of the quota.

        The first is dispatched at once if a slot is free and no image of its owner waits that could be painted; else it
        waits, as the others do. While its model has no live generator it waits too, whatever `may_wait` says. Give the
        owner's turns afterwards (`Batches.begin`): a slot may have become free in between. If the process dies after
        the first is inserted, the batch is completed from its record; room for the others was there before.

        Raises:
            LimitReached: `hourly_limit`; `waiting_limit`, the line is full; or `concurrent_limit`, it cannot be
                dispatched at once and may not wait. Nothing is recorded or counted.
            Invalid: `too_many_images`, so many never fit.
            Duplicate: its id or its idempotency key is on record already.
        """
        ids = batch_ids(image)
        self._require_possible(len(ids))
        window = await self.quota.reserve(quota_key, *ids)
        try:
            recorded = await self._insert(image, may_wait=may_wait, count=len(ids))
        except (LimitReached, Duplicate) as refused:
            # the same request again, in a line that it has filled itself: its entries in the window stay
            if await self.store.known_ids([image.id]):
                raise Duplicate("id") from refused
            await self.quota.release(quota_key, *ids)
            raise
        for other in missing_members(recorded):
            await self.record_other(other)
        return recorded, window

    async def record_other(self, image: Image) -> None:
        """Insert one of the other images of a recorded request, as waiting; again without effect."""
        places = await self._free_places(image.owner, needed=1) if self.line.places else []
        for place in [*places, None]:  # its request was admitted, so it is recorded even if the line is full now
            try:
                await self.store.insert(turns.waiting(image, place=place))
            except Duplicate as taken:
                if taken.key == "id":
                    return
            else:
                return

    def _require_possible(self, count: int) -> None:
        hour = self.quota.limit
        if (hour and count > hour) or not self.line.can_ever_take(count):
            raise Invalid(f"{count} images are more than the limits of an owner allow", code="too_many_images")

    async def _insert(self, image: Image, *, may_wait: bool, count: int) -> Image:
        view = await self.fleet.current_for(image.model) if self.fleet is not None else None
        # where nothing may wait, its command waits in the queue of the pool, as long as it has a slot
        is_live = view is None or view.is_live(image.model) or self.line.places is None
        pool = view.pool_of(image.model) if view is not None else DEFAULT_POOL
        slots = self.line.slot_keys(image.owner)
        if not slots and is_live:
            return await self._inserted(turns.dispatched(image, slot=None, pool=pool))
        free = await self._free_slots(image, slots, view) if is_live else []
        if count > 1:
            await self._require_room(image.owner, count - len(free))
        for slot in free:
            try:
                return await self._inserted(turns.dispatched(image, slot=slot, pool=pool))
            except Duplicate as taken:
                if taken.key != "slot":
                    raise
        if self.line.places is None or (is_live and not may_wait):
            raise self._no_free_slot()
        return await self._insert_waiting(image)

    async def _free_slots(self, image: Image, slots: list[str], view: FleetView | None) -> list[str]:
        """The free slots of the owner; none if another image has its turn before."""
        free = free_keys(slots, await self.store.held_slots(slots))
        if free and await next_in_turn(self.store, image.owner, now=image.created_at, limit=1, view=view):
            return []
        return free

    async def _insert_waiting(self, image: Image) -> Image:
        if not self.line.places:
            return await self._inserted(turns.waiting(image, place=None))
        while places := await self._free_places(image.owner, needed=1):
            # by chance, so that requests that come together seldom try the same places
            for place in random.sample(places, min(_TRIES, len(places))):
                try:
                    return await self._inserted(turns.waiting(image, place=place))
                except Duplicate as taken:
                    if taken.key != "slot":
                        raise
        raise self._line_is_full()

    async def _inserted(self, image: Image) -> Image:
        await self.store.insert(image)
        return image

    async def _require_room(self, owner: str, needed: int) -> None:
        if needed <= 0 or self.line.places == 0:
            return
        if self.line.places is None:
            raise self._no_free_slot()
        if len(await self._free_places(owner, needed=needed)) < needed:
            raise self._line_is_full()

    async def _free_places(self, owner: str, *, needed: int) -> list[str]:
        """Free places, at least as many as are needed if there are so many."""
        keys = self.line.place_keys(owner)
        found: list[str] = []
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            found += free_keys(some, await self.store.held_slots(some))
            if len(found) >= needed:
                break
        return found

    def _no_free_slot(self) -> LimitReached:
        return LimitReached(
            f"{self.line.slots} images are in progress already, or others wait; wait for one to finish, or cancel one",
            code="concurrent_limit",
            retry_after_s=_BUSY_RETRY_S,
        )

    def _line_is_full(self) -> LimitReached:
        return LimitReached(
            f"{self.line.places} images wait already; wait for one to start, or cancel one",
            code="waiting_limit",
            retry_after_s=_BUSY_RETRY_S,
        )


def image_from_command(command: GenerateImage, request: GenerationRequest, *, now: datetime, max_age_s: float) -> Image:
    """The record of the image that another service requests; the publisher is trusted to name the owner.

    Raises:
        Invalid: no owner (`owner_missing`), or older than a tombstone lives (`order_expired`): a deleted image could
            be created again.
    """
    if not command.owner:
        raise Invalid("the command of another service must name the owner", code="owner_missing")
    owner = parse_owner(command.owner)
    if command.time is not None and now - command.time > timedelta(seconds=max_age_s):
        raise Invalid("the command is too old to tell whether its image was deleted", code="order_expired")
    return new_image(
        request,
        image_id=command.id,
        owner=owner,
        source=command.source,
        now=now,
        traceparent=command.traceparent,
    )
