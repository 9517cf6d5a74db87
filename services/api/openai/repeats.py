"""The orders that are not answered yet, so that a repeat by OpenAI's SDK waits for its order instead of a new one.

The SDK sends no idempotency key. It counts its repeats in `x-stainless-retry-count`, and one has the body of the first:

    entry of owner and body:  [order, number of the last repeat that took it], …

An order is added before its images are recorded, and removed before the end of its answer is sent: a client that has
all of it may send the same request at once. If that end cannot be sent, the order is added again. A repeat takes an
order that no repeat of its number or a later one has taken; so two clients with the same request do not share one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from aiohttp import web

from common.domain.errors import BadRequest, Unavailable
from common.domain.images import new_image_id
from common.domain.owners import scoped_key
from common.domain.views import iso
from common.runtime.clock import Clock
from common.store.port import Entry, Store, back_off
from services.api.openai.schema import ImageRequest

log = logging.getLogger(__name__)

KIND: Final = "openai_orders"
HEADER: Final = "x-stainless-retry-count"
MAX_LISTED: Final = 100  # of one body; beyond it the oldest are forgotten
CLIENT_TIMEOUT: Final = timedelta(minutes=15)  # the SDK gives up after 10 minutes, then repeats


@dataclass(frozen=True, slots=True)
class Listed:
    """An order in the list: the id of its first image, the last repeat that took it, when it was added."""

    order_id: str
    taken: int
    added_at: datetime


@dataclass(slots=True)
class OpenOrder:
    """The order of one request."""

    id: str
    unlist: Callable[[], Awaitable[None]] | None = None
    is_answered: bool = False

    async def answered(self) -> None:
        """The answer is about to end: no repeat joins this order any more."""
        self.is_answered = True
        if self.unlist is not None:
            await self.unlist()


Orders = tuple[Listed, ...]


class Repeats:
    """Lists unanswered orders. Without identity nothing is listed: everybody is the same owner."""

    def __init__(self, store: Store, clock: Clock, *, is_on: bool, kept_s: float) -> None:
        self._store = store
        self._clock = clock
        self._is_on = is_on
        self._kept = max(timedelta(seconds=kept_s), CLIENT_TIMEOUT)

    @asynccontextmanager
    async def order(self, owner: str, body: ImageRequest, *, number: int) -> AsyncIterator[OpenOrder]:
        """The order that this request belongs to. It stays listed unless it is answered or refused."""
        new_id = new_image_id(self._clock.now())
        if not self._is_on:
            yield OpenOrder(new_id)
            return
        key = scoped_key(owner, hashlib.sha256(body.model_dump_json().encode()).hexdigest())
        order = OpenOrder(await self._take(key, new_id, number))
        order.unlist = partial(self._remove, key, order.id)
        try:
            yield order
        except BadRequest:
            await order.unlist()  # the refusal is the answer
            raise
        except BaseException:
            if order.is_answered:  # its end was not sent
                await self._add(key, Listed(order.id, number, self._clock.now()))
            raise

    async def _take(self, key: str, new_id: str, number: int) -> str:
        taken = new_id

        def change(listed: Orders) -> Orders:
            nonlocal taken
            # the one whose last repeat is nearest, which is the one before this
            free = [each for each in listed if each.taken < number]
            found = max(free, key=lambda each: each.taken, default=None)
            taken = found.order_id if found is not None else new_id
            others = tuple(each for each in listed if each is not found)
            return (*others, Listed(taken, number, found.added_at if found else self._clock.now()))

        await self._change(key, change)
        return taken

    async def _add(self, key: str, order: Listed) -> None:
        try:
            await self._change(key, lambda listed: (*listed, order))
        except Unavailable as error:
            log.warning("an order whose answer was cut off is not listed: %s", error)

    async def _remove(self, key: str, order_id: str) -> None:
        try:
            await self._change(key, lambda listed: tuple(each for each in listed if each.order_id != order_id))
        except Unavailable as error:
            log.warning("an answered order stays listed until it expires: %s", error)

    async def _change(self, key: str, change: Callable[[Orders], Orders]) -> None:
        losses = 0
        while True:
            before = await self._store.get_entry(KIND, key)
            now = self._clock.now()
            listed = change(tuple(each for each in _read(before) if each.added_at + self._kept > now))
            entry = Entry(
                kind=KIND,
                key=key,
                revision=before.revision + 1 if before is not None else 1,
                data={"orders": [[each.order_id, each.taken, iso(each.added_at)] for each in listed[-MAX_LISTED:]]},
                expires_at=now + self._kept,
            )
            if await self._store.put_entry(entry):
                return
            losses += 1
            await back_off(losses)


def repeat_number(request: web.Request) -> int:
    """Which repeat of the SDK this is; 0 is the first request, or one of another client."""
    text = request.headers.get(HEADER, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else 0


def _read(entry: Entry | None) -> Orders:
    orders = entry.data["orders"] if entry is not None else []
    return tuple(Listed(order_id, taken, datetime.fromisoformat(added_at)) for order_id, taken, added_at in orders)
