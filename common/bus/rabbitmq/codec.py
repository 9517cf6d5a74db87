"""Conversion between messages and AMQP: the body is the envelope, whose attributes the properties repeat."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import AbstractChannel as RawChannel
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from common.bus.handling import MAX_DEAD_BODY, MAX_FAILURES, one_line
from common.bus.port import DeadLetter
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, describe_error
from common.bus.rabbitmq.frames.outgoing import OutgoingMessage
from common.bus.rabbitmq.topology import DEAD, work_queue_name
from common.bus.rabbitmq.transport import UNREADABLE
from common.domain.errors import Invalid
from common.domain.texts import clean_traceparent
from common.domain.views import clamped, iso
from common.messages import CONTENT_TYPE, Message

log = logging.getLogger(__name__)

ACK_LIMIT_S: Final = 5.0
T = TypeVar("T", bound=Message)
PERSISTENT: Final = 2  # the delivery mode
OUR_HEADERS: Final = frozenset({"failures", "reason", "queue", "died-at"})


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A delivered message: only the channel that it came by can acknowledge it.

    Not aio-pika's `IncomingMessage`, which raises on odd values, such as a delivery mode of 7.
    """

    raw: DeliveredMessage

    @property
    def body(self) -> bytes:
        return self.raw.body

    @property
    def properties(self) -> Basic.Properties:
        return self.raw.header.properties

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.properties.headers or {}

    @property
    def exchange(self) -> str:
        """The exchange by which it came to its queue; empty for the default exchange."""
        return self.raw.exchange or ""

    @property
    def channel(self) -> RawChannel:
        return self.raw.channel

    @property
    def failures(self) -> int:
        count = self.headers.get("failures")
        return min(max(count, 0), MAX_FAILURES) if isinstance(count, int) else 0

    @property
    def returns(self) -> int:
        """How often it came back to its queue without an acknowledgement; the broker counts this on quorum queues."""
        count = self.headers.get("x-delivery-count")
        return count if isinstance(count, int) else 0

    @property
    def is_stale(self) -> bool:
        """Its channel is closed: it cannot be acknowledged, and the broker delivers it again."""
        return self.channel.is_closed

    async def ack(self, *, multiple: bool = False) -> None:
        """Acknowledge it; if the connection is lost, the broker delivers it again instead."""
        await self._settle("ack", self.channel.basic_ack(self._tag, multiple=multiple, wait=False))

    async def requeue(self) -> None:
        await self._settle("requeue", self.channel.basic_nack(self._tag, requeue=True, wait=False))

    async def _settle(self, what: str, sending: Awaitable[None]) -> None:
        try:
            if self.channel.connection.write_queue.full():
                async with deadline(ACK_LIMIT_S):
                    await sending
            else:
                await sending  # does not wait: there is room
        except BrokerUnavailable as error:
            log.debug("the %s of delivery %s failed, it will be redelivered: %s", what, self._tag, error.reason)
        except CONNECTION_EXCEPTIONS as error:
            detail = "the %s of delivery %s failed, it will be redelivered: %s"
            log.debug(detail, what, self._tag, describe_error(error))

    @property
    def _tag(self) -> int:
        return self.raw.delivery_tag or 0


def check_properties(delivery: Delivery) -> None:
    """Refuse a message whose properties cannot be read, or say that its body is in another form.

    Raises:
        Invalid: the detail names the property.
    """
    if unreadable := delivery.headers.get(UNREADABLE):
        raise Invalid(f"cannot be read: {one_line(str(unreadable))}", code="odd_property")
    encoding = (delivery.properties.content_encoding or "").lower()
    if encoding not in {"", "utf-8", "utf8", "identity"}:
        raise Invalid(f"the content encoding {encoding!r} is not supported", code="odd_property")
    content_type = (delivery.properties.content_type or "").lower()
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in {"utf-8", "utf8", "us-ascii"}:
            raise Invalid(f"the content type {content_type!r} is not supported", code="odd_property")


def with_traceparent(message: T, delivery: Delivery) -> T:
    """The message with the `traceparent` of its header, if the envelope has none.

    A publisher that another library traces has it in the header only.
    """
    found = clean_traceparent(delivery.headers.get("traceparent")) if message.traceparent is None else None
    return message if found is None else message.model_copy(update={"traceparent": found})


def amqp_message(message: Message, body: bytes) -> OutgoingMessage:
    """Build the AMQP message for `message`; `body` is its encoded form."""
    properties = Basic.Properties(
        content_type=CONTENT_TYPE,
        headers={"traceparent": _truncated(message.traceparent)} if message.traceparent else None,
        delivery_mode=PERSISTENT,
        correlation_id=_truncated(message.subject),
        message_id=_truncated(message.id),
        timestamp=clamped(message.time) if message.time else None,
        message_type=_truncated(message.type),
        app_id=_truncated(message.source),
    )
    return OutgoingMessage(body, properties)


def amqp_copy(delivery: Delivery, headers: Mapping[str, Any] | None = None) -> OutgoingMessage:
    """Copy a delivered message in order to publish it again, with `headers` added.

    The broker's own `x-` headers are not copied, because the broker would take them for its own. Neither are lists:
    the broker takes `CC` and `BCC` for further routing keys.
    """
    original = delivery.properties
    kept = {
        name: value
        for name, value in delivery.headers.items()
        # pamqp can read some values that it cannot write, such as a double beyond the range of a float
        if not name.startswith("x-") and name not in OUR_HEADERS and isinstance(value, str | int)
    }
    properties = Basic.Properties(
        content_type=original.content_type or CONTENT_TYPE,
        content_encoding=original.content_encoding,
        headers={**kept, **(headers or {})},
        delivery_mode=PERSISTENT,
        correlation_id=original.correlation_id,
        message_id=original.message_id or str(uuid.uuid4()),  # a returned message is found by its id
        timestamp=clamped(original.timestamp) if original.timestamp else None,
        message_type=original.message_type,
        app_id=original.app_id,
    )
    return OutgoingMessage(delivery.body[:MAX_DEAD_BODY], properties)


def dead_letter_headers(reason: str, queue: str, died_at: datetime | None) -> dict[str, Any]:
    return {"reason": one_line(reason), "queue": queue, "died-at": iso(died_at) if died_at else ""}


def parse_dead_letter(delivery: Delivery, prefix: str) -> DeadLetter:
    """Read the headers of a dead letter: the broker's `x-death` if it was the broker that moved it, else ours.

    A message that the broker moved still has the headers of its publisher, who may have written a reason of his own.
    """
    headers = delivery.headers
    if "x-death" in headers and delivery.exchange == prefix + DEAD:
        death = _last_death(headers)
        reason, queue, time = death.get("reason", "unknown"), death.get("queue", ""), death.get("time")
    else:
        reason, queue, time = headers.get("reason", "unknown"), headers.get("queue", ""), headers.get("died-at")
    reason, queue, died_at = one_line(str(reason)), one_line(str(queue)), _parse_time(time)
    queue = work_queue_name(queue.removeprefix(prefix))
    # The id is derived from the content, so both copies of a dead letter have the same id, at each read.
    content = f"{reason}\n{queue}\n{died_at}\n".encode(errors="replace")
    body = delivery.body[:MAX_DEAD_BODY]
    return DeadLetter(hashlib.sha256(content + body).hexdigest()[:16], body, reason, queue, died_at)


def expired_at(delivery: Delivery) -> datetime | None:
    """When the message last expired from a queue, by the broker's clock, in whole seconds."""
    return _parse_time(_last_death(delivery.headers).get("time"))


def _last_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


def _parse_time(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return clamped(moment) if isinstance(moment, datetime) else None


def _truncated(text: str) -> str:
    """AMQP short strings hold 255 bytes (0-9-1, 4.2.5.3); the body contains the full text."""
    return text.encode(errors="replace")[:255].decode(errors="ignore")
