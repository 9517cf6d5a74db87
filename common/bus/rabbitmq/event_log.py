"""The event log: a RabbitMQ stream with any number of readers, each with its own channel and offset.

Offsets are not contiguous. An offset past the end delivers nothing, and one before the beginning starts at the
beginning, both without an error (RabbitMQ 3.10 to 4.3). So a cursor contains an offset and the id of its event; reading
starts at this event, and the id is verified.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from aiormq.abc import DeliveredMessage

from common.bus.handling import parse_event
from common.bus.port import After, Logged, Since, Start
from common.bus.rabbitmq.codec import Delivery
from common.bus.rabbitmq.connection import FIRST_PAUSE_S, LONGEST_PAUSE_S, BrokerConnection, Session
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, error_reason
from common.bus.rabbitmq.topology import LOG_QUEUE
from common.domain.errors import CursorGone, Misconfigured
from common.domain.views import clamped
from common.messages import Event

log = logging.getLogger(__name__)

PREFETCH: Final = 500
ACK_EVERY: Final = 100  # on a stream an ack only grants credit; the rest of the prefetch covers the round trip
ALIVE_CHECK_S: Final = 10.0  # at the end of the log: check that the stream and this channel still exist
MARGIN: Final = timedelta(seconds=5)  # the clocks of broker and process differ; the broker searches by second
MAX_OFFSET: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _LogPosition:
    """The last event that was read."""

    offset: int
    event_id: str


@dataclass(frozen=True, slots=True)
class _StreamEntry:
    """`event_id` is the id of the event, or the AMQP message id if the event cannot be read."""

    offset: int
    event_id: str
    event: Event | None


class EventLog:
    """Has its own connection, so that a slow reader does not delay other consumers."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._failure = ""

    @property
    def unready_reason(self) -> str:
        return self._connection.unready_reason or self._failure

    async def read(self, start: Start) -> AsyncGenerator[Logged]:
        """Read from `start` on, and reconnect until the caller stops.

        Raises:
            CursorGone: the log does not hold the event of the cursor.
        """
        position = _parse_cursor(start.cursor) if isinstance(start, After) else None
        failures, last_prepared = 0, 0
        while True:
            try:
                last_prepared = await self._connection.wait_until_up(last_prepared=last_prepared)
                async with (
                    self._connection.session() as session,
                    aclosing(self._entries(session, start, position)) as entries,
                ):
                    async for entry in entries:
                        failures = 0
                        position = _LogPosition(entry.offset, entry.event_id)
                        if entry.event is not None:
                            yield Logged(f"{entry.offset}.{entry.event_id}", entry.event)
            except (BrokerUnavailable, Misconfigured) as error:
                self._failure = error_reason(error)
                log.warning("the event log cannot be read, retrying: %s", self._failure)
            await asyncio.sleep(min(FIRST_PAUSE_S * 2**failures, LONGEST_PAUSE_S))
            failures += 1

    async def _entries(
        self, session: Session, start: Start, position: _LogPosition | None
    ) -> AsyncGenerator[_StreamEntry]:
        """The events after the position, until the connection is lost."""
        name = self._connection.prefix + LOG_QUEUE
        consumer = _StreamConsumer(session, name, timeout_s=self._connection.timeout_s)
        await consumer.consume(_offset(start, position))
        self._failure = ""
        last_offset = -1
        if position is not None:
            await self._verify(consumer, position)
            last_offset = position.offset
        while True:
            entry = await consumer.next()
            if entry.offset > last_offset:  # skips what was delivered before
                last_offset = entry.offset
                yield entry

    async def _verify(self, consumer: _StreamConsumer, position: _LogPosition) -> None:
        # An existing event is delivered in about 10 ms. A false alarm only makes a client fetch its history again.
        found = await consumer.first(timeout_s=self._connection.timeout_s)
        if found is None or (found.offset, found.event_id) != (position.offset, position.event_id):
            actual = "nothing" if found is None else f"{found.offset}.{found.event_id}"
            raise CursorGone(f"the log does not hold {position.offset}.{position.event_id[:80]}, it holds {actual}")


class _StreamConsumer:
    """A consumer of the stream; the prefetch limits how many deliveries it buffers."""

    def __init__(self, session: Session, name: str, *, timeout_s: float) -> None:
        self._session = session
        self._name = name
        self._timeout_s = timeout_s
        self._deliveries: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._unacked = 0

    async def consume(self, offset: Any) -> None:
        self._session.on_lost = lambda: self._deliveries.put_nowait(None)
        async with deadline(self._timeout_s):
            await self._session.raw.basic_qos(prefetch_count=PREFETCH)
            await self._session.raw.basic_consume(self._name, self._on_message, arguments={"x-stream-offset": offset})

    async def first(self, *, timeout_s: float) -> _StreamEntry | None:
        """The first entry; None if nothing arrives in time although the stream exists."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next()
        except TimeoutError:
            await self._check_stream()
            return None

    async def next(self) -> _StreamEntry:
        while True:
            if not self._deliveries.empty():
                return await self._next()
            try:
                async with asyncio.timeout(ALIVE_CHECK_S):
                    return await self._next()
            except TimeoutError:
                await self._check_stream()

    async def _next(self) -> _StreamEntry:
        while True:
            delivery = await self._deliveries.get()
            if delivery is None:
                raise BrokerUnavailable("the connection to the event log was lost") from self._session.reason
            self._unacked += 1
            if self._unacked == ACK_EVERY:
                self._unacked = 0
                await delivery.ack(multiple=True)
            offset = delivery.headers.get("x-stream-offset")
            if isinstance(offset, int):
                event = parse_event(delivery.body)
                event_id = event.id if event is not None else delivery.properties.message_id or ""
                return _StreamEntry(offset, event_id, event)
            log.warning("ignored an event whose offset %.80r is no number", offset)  # a header of its publisher

    async def _check_stream(self) -> None:
        async with deadline(self._timeout_s):
            await self._session.raw.queue_declare(self._name, passive=True)

    async def _on_message(self, raw: DeliveredMessage) -> None:
        self._deliveries.put_nowait(Delivery(raw))


def _parse_cursor(cursor: str) -> _LogPosition:
    offset, _, event_id = cursor.partition(".")
    # isdecimal() alone accepts digits of other scripts, and int() thousands of digits
    if not (offset.isascii() and offset.isdecimal() and len(offset) < 20 and event_id and int(offset) <= MAX_OFFSET):
        raise CursorGone(f"the log has no position {cursor[:80]!r}")
    return _LogPosition(int(offset), event_id)


def _offset(start: Start, position: _LogPosition | None) -> Any:
    if position is not None:
        return position.offset
    assert isinstance(start, Since)  # a cursor always has a position
    return clamped(start.moment) - MARGIN
