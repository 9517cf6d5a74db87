"""A subscriber: a queue for this process only, bound to some event types."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiormq.abc import DeliveredMessage

from common.bus.handling import parse_event
from common.bus.rabbitmq.codec import Delivery
from common.bus.rabbitmq.connection import BrokerConnection, ResetBackoff, Session
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, error_reason
from common.bus.rabbitmq.topology import QueueSpec
from common.domain.errors import Misconfigured
from common.messages import Event

log = logging.getLogger(__name__)

PREFETCH: Final = 100


class Subscriber:
    """Calls `on_event` in the order of the events; an event is acknowledged even if `on_event` raises."""

    def __init__(self, queue: QueueSpec, on_event: Callable[[Event], None], *, connection: BrokerConnection) -> None:
        self.unready_reason = "not subscribed yet"
        self.attempted = asyncio.Event()
        self._queue = queue
        self._on_event = on_event
        self._connection = connection

    async def run(self) -> None:
        """Consume until cancelled."""
        await self._connection.run_sessions(self._use_session, self._on_failure)

    async def delete_queue(self) -> None:
        """Delete the queue if the broker is reachable; otherwise it expires."""
        if self._connection.unready_reason:
            return
        try:
            async with self._connection.session() as session, deadline(self._connection.timeout_s):
                await session.raw.queue_delete(self._queue.name)
        except BrokerUnavailable as error:
            log.debug("%s is not deleted and will expire: %s", self._queue.name, error.reason)

    async def _use_session(self, session: Session, reset_backoff: ResetBackoff) -> None:
        await self._consume(session)
        self.unready_reason = ""
        self.attempted.set()
        reset_backoff()
        await session.lost.wait()
        self.unready_reason = "the subscriber lost its channel"

    async def _consume(self, session: Session) -> None:
        await self._connection.declare(self._queue)
        async with deadline(self._connection.timeout_s):
            await session.raw.basic_qos(prefetch_count=PREFETCH)
            await session.raw.basic_consume(self._queue.name, self._on_message)

    def _on_failure(self, error: BrokerUnavailable | Misconfigured, _: int) -> None:
        self.unready_reason = error_reason(error)
        self.attempted.set()
        log.warning("%s cannot be consumed, retrying: %s", self._queue.name, self.unready_reason)

    async def _on_message(self, raw: DeliveredMessage) -> None:
        delivery = Delivery(raw)
        event = parse_event(delivery.body)
        if event is not None:
            try:
                self._on_event(event)
            except Exception:  # the top of a unit of work
                log.exception("a subscriber failed on %s", event.type)
        await delivery.ack()
