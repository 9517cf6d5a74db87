"""The event log: a stream, read from any offset by any number of readers, each on a channel of its own.

Offsets skip, one past the end delivers nothing, and one before the beginning starts later, all without an error
(RabbitMQ 3.10 to 4.3). So a cursor is an offset and the id of its event; it is read inclusively, and verified.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aio_pika import IncomingMessage
from aio_pika.exceptions import InvalidFrameError
from aiormq.abc import DeliveredMessage

from common.bus.handling import event_in
from common.bus.port import After, Logged, Since, Start
from common.bus.rabbitmq.codec import Delivery
from common.bus.rabbitmq.connection import FIRST_PAUSE_S, LONGEST_PAUSE_S, Link, Session
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, reason_of
from common.bus.rabbitmq.topology import LOG_QUEUE
from common.domain.errors import CursorGone, Misconfigured
from common.messages import Event

log = logging.getLogger(__name__)

PREFETCH: Final = 500
ACK_EVERY: Final = 100  # acks only move the credit; the rest of the prefetch bridges the way there and back
ALIVE_CHECK_S: Final = 10.0  # at the log's end: is the stream still there, and this channel
MARGIN: Final = timedelta(seconds=5)  # the broker's clock and ours; it finds a moment to the second
MAX_OFFSET: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Place:
    """The last event handled; `unreadable` ones after it broke the link, and are passed over."""

    offset: int
    mark: str
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    """`mark` is the event's id, as far as one can be made out."""

    offset: int
    mark: str
    event: Event | None


class EventLog:
    """Reads on a connection of its own, so that a slow reader holds up no work."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._failure = ""

    @property
    def unready_reason(self) -> str:
        return self._link.unready_reason or self._failure

    async def read(self, start: Start) -> AsyncGenerator[Logged]:
        """
        Raises:
            CursorGone: the log does not hold the event that the cursor names.
        """
        place = _place_of(start.cursor) if isinstance(start, After) else None
        failures, seen = 0, 0
        while True:
            try:
                await self._link.up()
                if self._link.preparations == seen:  # the channel was lost, not the link: the stream may be missing
                    await self._link.repair()
                seen = self._link.preparations
                async with self._link.session() as session, aclosing(self._entries(session, start, place)) as entries:
                    async for entry in entries:
                        failures = 0
                        place = _Place(entry.offset, entry.mark)
                        if entry.event is not None:
                            yield Logged(f"{entry.offset}.{entry.mark}", entry.event)
            except (BrokerUnavailable, Misconfigured) as error:
                place = _past_unreadable(place, error)
                self._failure = reason_of(error)
                log.warning("the event log cannot be read, trying again: %s", self._failure)
            await asyncio.sleep(min(FIRST_PAUSE_S * 2**failures, LONGEST_PAUSE_S))
            failures += 1

    async def _entries(self, session: Session, start: Start, place: _Place | None) -> AsyncGenerator[_Entry]:
        """What follows the place, until the link is lost."""
        arrivals = _Arrivals(session, timeout_s=self._link.timeout_s)
        await arrivals.consume(_offset(start, place))
        self._failure = ""
        last = -1
        if place is not None and not place.unreadable:
            await self._verify(arrivals, place)
            last = place.offset
        while True:
            entry = await arrivals.next()
            if entry.offset > last:  # never twice
                last = entry.offset
                yield entry

    async def _verify(self, arrivals: _Arrivals, place: _Place) -> None:
        # what is there is delivered in some 10 ms; a false alarm costs a client no more than a new look at its history
        found = await arrivals.first(within_s=self._link.timeout_s)
        if found is None or (found.offset, found.mark) != (place.offset, place.mark):
            there = "nothing" if found is None else f"{found.offset}.{found.mark}"
            raise CursorGone(f"the log does not hold {place.offset}.{place.mark[:80]}, there is {there}")


class _Arrivals:
    """The deliveries of one consumer; how many wait here is bounded by the prefetch."""

    def __init__(self, session: Session, *, timeout_s: float) -> None:
        self._session = session
        self._timeout_s = timeout_s
        self._waiting: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._unacked = 0

    async def consume(self, offset: Any) -> None:
        self._session.on_lost = lambda: self._waiting.put_nowait(None)
        async with deadline(self._timeout_s):
            await self._session.raw.basic_qos(prefetch_count=PREFETCH)
            await self._session.raw.basic_consume(LOG_QUEUE, self._take, arguments={"x-stream-offset": offset})

    async def first(self, *, within_s: float) -> _Entry | None:
        """None if nothing comes, though the stream answers."""
        try:
            async with asyncio.timeout(within_s):
                return await self._next()
        except TimeoutError:
            await self._check()
            return None

    async def next(self) -> _Entry:
        while True:
            try:
                async with asyncio.timeout(ALIVE_CHECK_S):
                    return await self._next()
            except TimeoutError:
                await self._check()

    async def _next(self) -> _Entry:
        delivery = await self._waiting.get()
        if delivery is None:
            raise BrokerUnavailable("the link to the event log was lost") from self._session.reason
        self._unacked += 1
        if self._unacked == ACK_EVERY:
            self._unacked = 0
            await delivery.ack(and_before=True)
        event = event_in(delivery.body)
        mark = event.id if event is not None else delivery.message.message_id or ""
        return _Entry(int(delivery.headers["x-stream-offset"]), mark, event)

    async def _check(self) -> None:
        async with deadline(self._timeout_s):
            await self._session.raw.queue_declare(LOG_QUEUE, passive=True)

    async def _take(self, raw: DeliveredMessage) -> None:
        self._waiting.put_nowait(Delivery(IncomingMessage(raw), self._session.raw))


def _place_of(cursor: str) -> _Place:
    offset, _, mark = cursor.partition(".")
    # isdecimal alone would take digits of other scripts, and int() thousands of them
    if not (offset.isascii() and offset.isdecimal() and len(offset) < 20 and mark and int(offset) <= MAX_OFFSET):
        raise CursorGone(f"the log has no place {cursor[:80]!r}")
    return _Place(int(offset), mark)


def _offset(start: Start, place: _Place | None) -> Any:
    if place is not None:
        return place.offset + (place.unreadable + 1 if place.unreadable else 0)
    assert isinstance(start, Since)  # a cursor always has a place
    return start.moment - MARGIN


def _past_unreadable(place: _Place | None, error: BrokerUnavailable | Misconfigured) -> _Place | None:
    """An event whose frame cannot be decoded breaks the link each time it is read: pass over it."""
    if place is None or not isinstance(error.__cause__, InvalidFrameError):
        return place
    log.error("the event after %s cannot be decoded and is passed over: %s", place.offset, error.__cause__)
    return _Place(place.offset, place.mark, place.unreadable + 1)
