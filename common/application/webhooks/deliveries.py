"""The deliveries of webhooks, on record until seven days after their end.

    webhook      <image id>.<revision>          one delivery: its body, its tries, when it is due
    webhook_due  <host>/<time>/<delivery>       the line of each host, by time; a delivery names its place in it
    webhook_gone <hash of owner and address>    an address that has answered 410

A delivery that moves gets its new place before it is written, and loses the old one afterwards. So wherever a process
dies, an open delivery has a place, and a place that its delivery does not name is removed when it is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from common.application.webhooks.body import delivery_body
from common.domain.errors import Unreadable
from common.domain.images import Image
from common.domain.webhooks import webhook_host
from common.messages import FINAL_EVENTS, ImageChanged
from common.runtime.clock import Clock
from common.runtime.tracing.spans import traceparent_about
from common.store.documents import parse_time, time_text
from common.store.port import Entry, Store

KIND: Final = "webhook"
DUE: Final = "webhook_due"
GONE: Final = "webhook_gone"
DELIVERED_EVENTS: Final = (FINAL_EVENTS | {"image.started"}) - {"image.deleted"}
LOG_AGE: Final = timedelta(days=7)  # after the last time at which something is due
STALE_AFTER: Final = timedelta(minutes=2)  # a place that no delivery names may be one that is being written
BLOCKED_FOR: Final = timedelta(seconds=1)
MAX_TRIES_KEPT: Final = 30
PAGE: Final = 32


class DeliveryState(StrEnum):
    OPEN = "open"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


class DeliveryTry(BaseModel):
    """One try: the status of the answer, or why there was none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: AwareDatetime
    took_s: float
    status: int | None = None
    error: str | None = None


class WebhookDelivery(BaseModel):
    """One event on its way to one address. `id` is the `webhook-id` of every try; `tried` counts since a replay."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    owner: str
    type: str
    url: str
    body: str
    created_at: AwareDatetime
    due: str | None
    state: DeliveryState = DeliveryState.OPEN
    tried: int = 0
    tries: tuple[DeliveryTry, ...] = ()
    revision: int = 1
    traceparent: str | None = None

    @property
    def key(self) -> str:
        return delivery_key(self.id)

    @property
    def image_id(self) -> str:
        return self.id.partition(".")[0]

    @property
    def host(self) -> str:
        return webhook_host(self.url)

    @property
    def due_at(self) -> datetime | None:
        return None if self.due is None else due_time(self.due)

    @property
    def awaits_first_try(self) -> bool:
        return self.state is DeliveryState.OPEN and not self.tries


def delivery_key(delivery_id: str) -> str:
    """The key of a delivery; those of one image sort by the revision."""
    image_id, _, revision = delivery_id.partition(".")
    return f"{image_id}.{revision.zfill(9)}"


def due_time(place: str) -> datetime:
    """When a place in the line is due."""
    return parse_time(place.split("/")[1])


@dataclass(frozen=True, slots=True)
class Deliveries:
    store: Store
    clock: Clock

    async def record(self, image: Image, event: ImageChanged) -> None:
        """Put the event into the line of the image's webhook; again without effect. Raises Unavailable."""
        if image.webhook is None or event.type not in DELIVERED_EVENTS:
            return
        key = delivery_key(event.id)
        delivery = WebhookDelivery(
            id=event.id,
            owner=image.owner,
            type=event.type,
            url=image.webhook,
            body=delivery_body(event),
            created_at=event.time,
            due=_place(webhook_host(image.webhook), event.time, key),
            traceparent=traceparent_about(image.id, event.traceparent),
        )
        if not await self.store.put_entry(_entry(delivery)):
            known = await self.get(event.id)
            if known is None or not known.awaits_first_try:
                return
            delivery = known  # its process may have died before it had its place
        await self._put_place(delivery)

    async def get(self, delivery_id: str) -> WebhookDelivery | None:
        """Raises Unreadable."""
        entry = await self.store.get_entry(KIND, delivery_key(delivery_id))
        return None if entry is None else _read(entry)

    async def of_image(self, image_id: str) -> list[WebhookDelivery]:
        """The log of an image, in the order of its events. Raises Unreadable."""
        return [_read(entry) async for entry in self._entries_of(image_id)]

    async def readable_of_image(self, image_id: str) -> list[WebhookDelivery]:
        """The same without what cannot be read, as a newer release may have written it."""
        found: list[WebhookDelivery] = []
        async for entry in self._entries_of(image_id):
            with suppress(Unreadable):
                found.append(_read(entry))
        return found

    async def _entries_of(self, image_id: str) -> AsyncIterator[Entry]:
        after = f"{image_id}."
        while page := await self.store.entries_after(KIND, after, limit=PAGE):
            for entry in page:
                if not entry.key.startswith(f"{image_id}."):
                    return
                yield entry
            after = page[-1].key

    async def all(self) -> AsyncIterator[WebhookDelivery]:
        """Every readable delivery, those of an image in the order of its events."""
        after = ""
        while page := await self.store.entries_after(KIND, after, limit=PAGE):
            for entry in page:
                with suppress(Unreadable):
                    yield _read(entry)
            after = page[-1].key

    async def claim(self, place: str, *, until: datetime) -> WebhookDelivery | None:
        """The delivery that is due at this place, for the caller alone until the time; None if it may not be sent now.

        A first try waits for the first tries of earlier events of the image.
        """
        now = self.clock.now()
        delivery = await self._at(place)
        if delivery is None:
            if due_time(place) < now - STALE_AFTER:
                await self.store.remove_entry(DUE, place)
            return None
        if delivery.awaits_first_try and await self._is_blocked(delivery):
            await self.reschedule(delivery, now + BLOCKED_FOR)
            return None
        return await self.reschedule(delivery, until)

    async def reschedule(
        self, delivery: WebhookDelivery, due_at: datetime | None, **changes: Any
    ) -> WebhookDelivery | None:
        """Change a delivery and its place; without a time it leaves the line. None if another writer was faster."""
        due = None if due_at is None else _place(delivery.host, due_at, delivery.key)
        moved = delivery.model_copy(update={**changes, "due": due, "revision": delivery.revision + 1})
        await self._put_place(moved)
        if not await self.store.put_entry(_entry(moved, now=self.clock.now())):
            return None
        if delivery.due is not None and delivery.due != due:
            await self.store.remove_entry(DUE, delivery.due)
        return moved

    async def replay(self, delivery_id: str) -> bool:
        """Let a delivery begin again, now, with the same id; False if it is not on record, or is changed just now."""
        delivery = await self.get(delivery_id)
        if delivery is None:
            return False
        await self.store.remove_entry(GONE, _gone_key(delivery))
        moved = await self.reschedule(delivery, self.clock.now(), state=DeliveryState.OPEN, tried=0)
        return moved is not None

    async def forget(self, image: Image) -> None:
        """Remove the deliveries of a deleted image, which hold its prompt; what was not delivered will not be."""
        if image.webhook is None:
            return
        for delivery in await self.of_image(image.id):
            await self.store.remove_entry(KIND, delivery.key)
            if delivery.due is not None:
                await self.store.remove_entry(DUE, delivery.due)

    async def disable(self, delivery: WebhookDelivery) -> None:
        """Send nothing more to this address of this owner, until a delivery to it is replayed, or for seven days."""
        now = self.clock.now()
        await self.store.put_entry(Entry(GONE, _gone_key(delivery), 1, {"at": time_text(now)}, now + LOG_AGE))

    async def is_disabled(self, delivery: WebhookDelivery) -> bool:
        return await self.store.get_entry(GONE, _gone_key(delivery)) is not None

    async def _at(self, place: str) -> WebhookDelivery | None:
        entry = await self.store.get_entry(KIND, place.split("/")[2])
        try:
            delivery = None if entry is None else _read(entry)
        except Unreadable:
            return None
        return delivery if delivery is not None and delivery.due == place else None

    async def _is_blocked(self, delivery: WebhookDelivery) -> bool:
        for earlier in await self.of_image(delivery.image_id):
            if earlier.key >= delivery.key:
                break
            if earlier.awaits_first_try:
                await self._put_place(earlier)  # its process may have died before it had one
                return True
        return False

    async def _put_place(self, delivery: WebhookDelivery) -> None:
        if delivery.due is not None:
            expires_at = due_time(delivery.due) + LOG_AGE
            await self.store.put_entry(Entry(DUE, delivery.due, 1, {}, expires_at))


def _place(host: str, due_at: datetime, key: str) -> str:
    return f"{host}/{time_text(due_at)}/{key}"


def _entry(delivery: WebhookDelivery, *, now: datetime | None = None) -> Entry:
    data = delivery.model_dump(mode="json", exclude_none=True, exclude={"revision"})
    lasts_from = max(filter(None, (delivery.created_at, delivery.due_at, now)))
    return Entry(KIND, delivery.key, delivery.revision, data, lasts_from + LOG_AGE)


def _read(entry: Entry) -> WebhookDelivery:
    try:
        return WebhookDelivery.model_validate({"due": None, **entry.data, "revision": entry.revision})
    except ValidationError as error:
        raise Unreadable("store", f"the delivery {entry.key!r} cannot be read") from error


def _gone_key(delivery: WebhookDelivery) -> str:
    return hashlib.sha256(f"{delivery.owner}\n{delivery.url}".encode()).hexdigest()
