"""A listener: a queue of this process's own, bound to a few types of event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from aio_pika.abc import AbstractIncomingMessage

from common.bus.handling import event_in
from common.bus.rabbitmq.codec import Delivery
from common.bus.rabbitmq.connection import Link, Session, Working
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, reason_of
from common.bus.rabbitmq.topology import Queue, declare_queue
from common.domain.errors import Misconfigured
from common.messages import Event

log = logging.getLogger(__name__)

PREFETCH: Final = 100


class Listener:
    """`on_event` is called in the order of the events; one that raises has heard it."""

    def __init__(self, queue: Queue, on_event: Callable[[Event], None], *, link: Link) -> None:
        self.unready_reason = "not listening yet"
        self.tried = asyncio.Event()
        self._queue = queue
        self._hear = on_event
        self._link = link

    async def keep(self) -> None:
        """Listen until cancelled."""
        await self._link.keep_session(self._use, self._failed)

    async def leave(self) -> None:
        """Delete the queue, if the broker can be reached now; it expires anyway."""
        if self._link.unready_reason:
            return
        try:
            async with self._link.session() as session, deadline(self._link.timeout_s):
                await session.raw.queue_delete(self._queue.name)
        except BrokerUnavailable as error:
            log.debug("%s is left to expire: %s", self._queue.name, error.reason)

    async def _use(self, session: Session, working: Working) -> None:
        await self._consume(session)
        self.unready_reason = ""
        self.tried.set()
        working()
        await session.lost.wait()
        self.unready_reason = "the listener was lost"

    async def _consume(self, session: Session) -> None:
        async with deadline(self._link.timeout_s):
            await declare_queue(session.channel, self._queue)
            await session.raw.basic_qos(prefetch_count=PREFETCH)
            queue = await session.channel.get_queue(self._queue.name, ensure=False)
            await queue.consume(partial(self._take, session))

    def _failed(self, error: BrokerUnavailable | Misconfigured, _: int) -> None:
        self.unready_reason = reason_of(error)
        self.tried.set()
        log.warning("%s cannot be consumed, trying again: %s", self._queue.name, self.unready_reason)

    async def _take(self, session: Session, message: AbstractIncomingMessage) -> None:
        delivery = Delivery(message, session.raw)
        event = event_in(delivery.body)
        if event is not None:
            try:
                self._hear(event)
            except Exception:  # the top of a unit of work
                log.exception("a listener failed on %s", event.type)
        await delivery.ack()
