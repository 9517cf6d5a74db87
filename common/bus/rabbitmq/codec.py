"""Conversion between messages and AMQP: the body is the envelope, whose attributes the properties repeat."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import AbstractChannel as RawChannel

from common.bus.port import DeadLetter
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline
from common.bus.rabbitmq.topology import ROUTES
from common.domain.views import iso
from common.messages import CONTENT_TYPE, Message

log = logging.getLogger(__name__)

ACK_LIMIT_S: Final = 5.0
OUR_HEADERS: Final = frozenset({"failures", "reason", "queue", "died-at"})
_QUEUE_NAMES: Final = {route.queue: queue.value for queue, route in ROUTES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A delivered message, and its channel: only this channel can acknowledge it."""

    message: AbstractIncomingMessage
    channel: RawChannel

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.message.headers

    @property
    def failures(self) -> int:
        count = self.headers.get("failures")
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
            async with deadline(ACK_LIMIT_S):
                await sending
        except BrokerUnavailable as error:
            log.debug("the %s of delivery %s failed, it will be redelivered: %s", what, self._tag, error.reason)

    @property
    def _tag(self) -> int:
        return self.message.delivery_tag or 0


def amqp_message(message: Message, body: bytes) -> AmqpMessage:
    """Build the AMQP message for `message`; `body` is its encoded form."""
    return AmqpMessage(
        body,
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=_truncated(message.id),
        type=_truncated(message.type),
        correlation_id=_truncated(message.subject),
        app_id=_truncated(message.source),
        timestamp=message.time,
        headers={"traceparent": message.traceparent} if message.traceparent else {},
    )


def amqp_copy(delivery: Delivery, headers: Mapping[str, Any] | None = None) -> AmqpMessage:
    """Copy a delivered message in order to publish it again, with `headers` added.

    The broker's own `x-` headers are not copied, because the broker would take them for its own.
    """
    original = delivery.message
    kept = {
        name: value
        for name, value in delivery.headers.items()
        # pamqp can read some value types that it cannot write
        if not name.startswith("x-") and name not in OUR_HEADERS and isinstance(value, str | int | float)
    }
    return AmqpMessage(
        delivery.body,
        content_type=original.content_type or CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=original.message_id or str(uuid.uuid4()),  # aiormq matches returned messages by id
        type=original.type,
        correlation_id=original.correlation_id,
        app_id=original.app_id,
        timestamp=original.timestamp,
        headers={**kept, **(headers or {})},
    )


def dead_letter_headers(reason: str, queue: str, died_at: datetime | None) -> dict[str, Any]:
    return {"reason": reason[:1000], "queue": queue, "died-at": iso(died_at) if died_at else ""}


def parse_dead_letter(delivery: Delivery) -> DeadLetter:
    """Read the headers of a dead letter: ours if we published it, else the broker's `x-death`, latest first."""
    headers = delivery.headers
    if "reason" in headers:
        reason, queue = str(headers["reason"]), str(headers.get("queue", ""))
        died_at = _parse_time(headers.get("died-at"))
    else:
        death = _last_death(headers)
        reason, queue = str(death.get("reason", "unknown")), str(death.get("queue", ""))
        died_at = _parse_time(death.get("time"))
    queue = _QUEUE_NAMES.get(queue, queue)
    # The id is derived from the content, so both copies of a dead letter have the same id, at each read.
    content = f"{reason}\n{queue}\n{died_at}\n".encode()
    return DeadLetter(hashlib.sha256(content + delivery.body).hexdigest()[:16], delivery.body, reason, queue, died_at)


def expired_at(delivery: Delivery) -> datetime | None:
    """When the message last expired from a queue, by the broker's clock, in whole seconds."""
    return _parse_time(_last_death(delivery.headers).get("time"))


def _last_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


def _parse_time(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _truncated(text: str) -> str:
    """AMQP short strings hold 255 bytes (0-9-1, 4.2.5.3); the body contains the full text."""
    return text.encode()[:255].decode(errors="ignore")
