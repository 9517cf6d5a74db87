"""Receives events on a durable queue of one's own: what happens while nobody listens waits there."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from aio_pika.abc import AbstractIncomingMessage
from pydantic import TypeAdapter, ValidationError

from darkroom_client.bus.connection import BusChannel, broker_errors, log
from darkroom_client.errors import BusError
from darkroom_client.events import OneImageEvent, event_of_message
from darkroom_client.messages import BusEvent, ImageChanged, ImageDeleted, ImageProgressed, JanitorPurged, JanitorSwept

EXCHANGE: Final = "image.events"
PREFETCH: Final = 50  # events that wait in this process; the broker gives them to another one if this one dies
PAUSES_S: Final = (0.1, 0.5, 1.0, 3.0)
SEEN: Final = 10_000  # images whose newest revision is remembered
_ADAPTER: Final[TypeAdapter[BusEvent]] = TypeAdapter(BusEvent)

Received = OneImageEvent | JanitorPurged | JanitorSwept


class BusListener:
    """Events from the queue `queue`, which is declared, and bound to the types `events` (`image.*` for all of images).

    An event is acknowledged when the loop asks for the next one. So an event whose handling fails is delivered again,
    to this or another listener, when the connection has ended:

        async with BusListener(url, queue="shop.images", events=["image.completed"]) as listener:
            async for event in listener.events():
                match event:
                    case Completed(image=image, owner=owner): ...

    Two processes with the same queue share its events. Events that this one has handled are left out when they are
    repeated or outdated.
    """

    def __init__(
        self,
        url: str,
        *,
        queue: str,
        events: Sequence[str] = ("image.completed", "image.failed", "image.cancelled", "image.deleted"),
        prefix: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self._queue = queue
        self._types = list(events)
        self._exchange = prefix + EXCHANGE
        self._arguments = dict(arguments if arguments is not None else {"x-queue-type": "quorum"})
        self._received: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        self._channel = BusChannel(url, name=queue, confirms=False, on_lost=lambda: self._received.put_nowait(None))
        self._seen = SeenRevisions()

    async def __aenter__(self) -> Self:
        """Connect and declare the queue, so that nothing that happens from now on is missed.

        Raises:
            BusError: the broker cannot be reached, or does not allow it.
        """
        await self._consume()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def events(self) -> AsyncGenerator[Received, None]:
        """The events; it never ends, and connects again when the broker was away."""
        while True:
            message = await self._received.get()
            if message is None:
                await self._reconnect()
                continue
            event = _read(message)
            if event is not None and self._seen.is_new(event):
                yield _shown(event)
                self._seen.remember(event)  # not before it is handled: else a redelivery would be left out
            with suppress(BusError):  # the channel is gone: it is delivered again, and left out then
                async with broker_errors("the event is not acknowledged"):
                    await message.ack()

    async def _reconnect(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)] * random.uniform(0.5, 1.5))
            try:
                await self._consume()
            except BusError as error:
                log.warning("no events: %s", error)
                failures += 1
            else:
                return

    async def _consume(self) -> None:
        # what has not been read of an earlier channel is delivered again
        await self._channel.close()
        self._received = asyncio.Queue()
        channel = await self._channel.open()
        received = self._received

        async def put(message: AbstractIncomingMessage) -> None:
            received.put_nowait(message)

        try:
            async with broker_errors(f"queue {self._queue} cannot be used"):
                await channel.set_qos(prefetch_count=PREFETCH)
                queue = await channel.declare_queue(self._queue, durable=True, arguments=self._arguments)
                for kind in self._types:
                    await queue.bind(self._exchange, kind)
                await queue.consume(put)
        except BusError:
            await self._channel.close()
            raise


def _read(message: AbstractIncomingMessage) -> BusEvent | None:
    """The event of a message; None if this version does not know it."""
    try:
        return _ADAPTER.validate_json(message.body)
    except (ValidationError, RecursionError):
        log.debug("a message of type %s is of a kind that this version does not know", message.type)
        return None


def _shown(event: BusEvent) -> Received:
    return event if isinstance(event, JanitorPurged | JanitorSwept) else event_of_message(event)


class SeenRevisions:
    """The newest revision of each image, and the newest ids: an event may come twice, or after a newer one.

    Both are of events that were handled.
    """

    def __init__(self) -> None:
        self._revisions: OrderedDict[str, int] = OrderedDict()
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, event: BusEvent) -> bool:
        if event.id in self._ids:
            return False
        if not isinstance(event, ImageChanged | ImageProgressed | ImageDeleted):
            return True
        return event.revision >= self._revisions.get(event.subject, 0)

    def remember(self, event: BusEvent) -> None:
        self._ids[event.id] = None
        if len(self._ids) > SEEN:
            self._ids.popitem(last=False)
        if isinstance(event, ImageChanged | ImageProgressed | ImageDeleted):
            self._revisions[event.subject] = event.revision
            self._revisions.move_to_end(event.subject)
            if len(self._revisions) > SEEN:
                self._revisions.popitem(last=False)
