"""A bus that makes spans of what another bus sends and delivers; only used if traces are on.

    send, publish ─▶ span of the producer ─▶ its `traceparent` is that of the message
    a message ─▶ span of the consumer, a child of the producer's ─▶ the handler, which gets the span as `traceparent`

Attributes: OpenTelemetry's semantic conventions for messaging. Progress has no spans: there are four a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from common.bus.handling import MAX_BODY, queue_of
from common.bus.port import (
    Bus,
    Consumer,
    DeadLetter,
    Handler,
    Logged,
    Outcome,
    Reject,
    Retry,
    Start,
    WorkQueue,
)
from common.domain.errors import Unavailable
from common.domain.pools import DEFAULT_POOL
from common.domain.texts import is_code
from common.messages import CancelImage, Command, Event, GenerateImage, ImageChanged, ImageDeleted, Message, Tick
from common.runtime.tracing.spans import Attribute, Span, SpanKind, span, span_about, span_of_message

OUTCOME: Final = "darkroom.outcome"
_MAX_ID: Final = 255  # characters
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class MessageDestination:
    """Where a message goes: an exchange, the routing key, and the queue if there is only one."""

    exchange: str
    key: str
    queue: str = ""


class MessageNames(Protocol):
    """The names of an adapter, as spans show them."""

    @property
    def system(self) -> str: ...

    def work(self, queue: WorkQueue, pool: str) -> MessageDestination: ...

    def event(self, event_type: str) -> MessageDestination: ...


class MemoryNames:
    system = "memory"

    def work(self, queue: WorkQueue, pool: str) -> MessageDestination:
        return MessageDestination(queue.of_pool(pool), "")

    def event(self, event_type: str) -> MessageDestination:
        return MessageDestination("image.events", event_type)


class TracedBus:
    def __init__(self, bus: Bus, names: MessageNames) -> None:
        self._bus = bus
        self._names = names

    async def send(self, command: Command, *, delay_s: float = 0, pool: str = DEFAULT_POOL) -> None:
        image_id = _image_of(command)
        destination = self._names.work(queue_of(command), pool)
        attributes = self._attributes("send", destination, command)
        if delay_s > 0:
            attributes["darkroom.delay"] = delay_s
        name = f"send {destination.exchange}"
        with span_about(image_id, command.traceparent, name, SpanKind.PRODUCER, attributes) as sent:
            await self._bus.send(_continued(command, sent), delay_s=delay_s, pool=pool)

    async def publish(self, event: Event) -> None:
        if not isinstance(event, ImageChanged | ImageDeleted):
            await self._bus.publish(event)
            return
        destination = self._names.event(event.type)
        attributes = self._attributes("send", destination, event)
        name = f"send {destination.exchange}"
        with span_about(event.subject, event.traceparent, name, SpanKind.PRODUCER, attributes) as sent:
            await self._bus.publish(_continued(event, sent))

    async def publish_several(self, events: Sequence[Event]) -> list[Unavailable | None]:
        """One by one, at the same time: each has a span of its own."""
        return await asyncio.gather(*map(self._outcome, events))

    async def _outcome(self, event: Event) -> Unavailable | None:
        try:
            await self.publish(event)
        except Unavailable as error:
            return error
        return None

    async def tick(self, tick: Tick) -> None:
        destination = self._names.work(WorkQueue(tick.type), DEFAULT_POOL)
        with span(
            f"send {destination.exchange}", SpanKind.PRODUCER, self._attributes("send", destination, tick)
        ) as sent:
            await self._bus.tick(_continued(tick, sent))

    async def arm(self, timer: str, *, interval_s: float) -> bool:
        return await self._bus.arm(timer, interval_s=interval_s)

    def consume(
        self, queue: WorkQueue, handler: Handler, *, concurrency: int, pool: str = DEFAULT_POOL
    ) -> AbstractAsyncContextManager[Consumer]:
        destination = self._names.work(queue, pool)

        async def traced_handler(message: Command | Tick | DeadLetter) -> Outcome:
            with span_of_message(
                f"process {destination.queue or destination.exchange}",
                SpanKind.CONSUMER,
                self._attributes("process", destination, message),
                traceparent=_traceparent_of(message),
                image_id=_image_of(message),
            ) as processed:
                given = _continued(message, processed) if isinstance(message, GenerateImage) else message
                outcome = await handler(given)
                _note(processed, outcome)
                return outcome

        return self._bus.consume(queue, traced_handler, concurrency=concurrency, pool=pool)

    def span_of_delivery(self, event: Event) -> AbstractContextManager[Span]:
        """The span in which an event from the log is passed to those who follow it."""
        destination = self._names.event(event.type)
        return span_of_message(
            f"process {destination.exchange}",
            SpanKind.CONSUMER,
            self._attributes("process", destination, event),
            traceparent=event.traceparent,
            image_id=event.subject,
        )

    def subscribe(self, types: frozenset[str], on_event: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        return self._bus.subscribe(types, on_event)

    def read(self, start: Start) -> AsyncGenerator[Logged]:
        return self._bus.read(start)

    async def waiting(self, queue: WorkQueue, *, pool: str = DEFAULT_POOL) -> int:
        return await self._bus.waiting(queue, pool=pool)

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        return await self._bus.dead_letters(limit)

    async def count_dead_letters(self) -> int:
        return await self._bus.count_dead_letters()

    async def redrive(self, letter_id: str) -> bool:
        return await self._bus.redrive(letter_id)

    async def drop(self, letter_id: str) -> bool:
        return await self._bus.drop(letter_id)

    @property
    def unready_reason(self) -> str:
        return self._bus.unready_reason

    @property
    def warning(self) -> str:
        return self._bus.warning

    def _attributes(
        self, operation: str, destination: MessageDestination, message: Message | DeadLetter
    ) -> dict[str, Attribute]:
        found: dict[str, Attribute] = {
            "messaging.system": self._names.system,
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": destination.exchange,
            "messaging.message.id": message.id[:_MAX_ID],
        }
        if destination.key:
            found["messaging.rabbitmq.destination.routing_key"] = destination.key
        if destination.queue and operation == "process":
            found["messaging.destination.subscription.name"] = destination.queue
        if isinstance(message, Message):
            found["cloudevents.event_type"] = message.type
        return found


def span_of_delivery(bus: Bus, event: Event) -> AbstractContextManager[object]:
    """`TracedBus.span_of_delivery`, if the bus makes spans."""
    return bus.span_of_delivery(event) if isinstance(bus, TracedBus) else nullcontext()


def _continued(message: M, by: Span) -> M:
    return message if by.traceparent is None else message.model_copy(update={"traceparent": by.traceparent})


def _image_of(message: Command | Tick | DeadLetter) -> str:
    match message:
        case GenerateImage():
            return message.id[:_MAX_ID]
        case CancelImage():
            return message.subject[:_MAX_ID]
    return ""


def _traceparent_of(message: Command | Tick | DeadLetter) -> str | None:
    if not isinstance(message, DeadLetter):
        return message.traceparent
    if len(message.body) > MAX_BODY:
        return None
    try:
        found = json.loads(message.body)
    except (ValueError, RecursionError):
        return None
    return found.get("traceparent") if isinstance(found, dict) else None


def _note(processed: Span, outcome: Outcome) -> None:
    match outcome:
        case Retry():
            processed.set(OUTCOME, "retry")
        case Reject(reason):
            processed.set(OUTCOME, "dead_letter")
            code = reason.partition(":")[0]  # the rest may quote a prompt
            processed.fail(code if is_code(code) else "rejected")
        case _:
            processed.set(OUTCOME, "done")
