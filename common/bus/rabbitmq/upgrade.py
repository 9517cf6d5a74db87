"""The upgrade from the topology of version 0.1, whose queues and bindings outlive it on the broker.

    image.commands ──(every key)──▶ work queues     unbound, apart from generate and cancel
    image.retry.<ms>.v1 ──(expires)──▶ image.commands     moved to .v2, which expires to image.work
    image.dead.v1, image.dead.work.v1     unbound, moved to .v2

The old queues stay, because processes of the old version may still use them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity
from pamqp.commands import Basic

from common.bus.handling import cancel_requests
from common.bus.port import WorkQueue
from common.bus.rabbitmq.codec import Delivery, amqp_copy, dead_letter_headers, parse_dead_letter
from common.bus.rabbitmq.connection import FIRST_PAUSE_S, LONGEST_PAUSE_S, BrokerConnection
from common.bus.rabbitmq.deadlines import deadline, raise_if_cancelled
from common.bus.rabbitmq.publisher import Publisher
from common.bus.rabbitmq.topology import COMMANDS, DEAD, KEPT, ROUTES, WORK, milliseconds, retry_name
from common.domain.errors import Misconfigured, Unavailable

log = logging.getLogger(__name__)

OLD_DEAD: Final = "image.dead.v1"
OLD_DEAD_WORK: Final = "image.dead.work.v1"
_KEYS: Final = frozenset(route.key for route in ROUTES.values())


class Upgrade:
    """Needs the rights of a service; a process without them leaves the upgrade to the others."""

    def __init__(self, connection: BrokerConnection, publisher: Publisher, retry_delays: Sequence[float]) -> None:
        self._connection = connection
        self._publisher = publisher
        self._retry_delays = retry_delays
        self.attempted = asyncio.Event()

    async def run(self) -> None:
        """Upgrade what an older version left, then end; while the broker is unreachable it is tried again."""
        pause_s = FIRST_PAUSE_S
        before = cancel_requests()
        while True:
            try:
                await self._connection.wait_until_up(last_prepared=0)
                await self._unbind()
                moved = await self._drain_all()
            except (Unavailable, Misconfigured) as error:
                raise_if_cancelled(before)
                self.attempted.set()
                log.debug("the topology of an older version is not upgraded yet: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            self.attempted.set()
            if moved:
                log.info("moved %d messages from queues of an older version", moved)
            return

    async def _unbind(self) -> None:
        old = [(route.queue, COMMANDS, route.key) for route in ROUTES.values() if COMMANDS not in route.exchanges]
        old += [(OLD_DEAD, DEAD, ""), (OLD_DEAD_WORK, DEAD, "dead"), (OLD_DEAD_WORK, COMMANDS, "dead")]
        prefix = self._connection.prefix
        for queue, exchange, key in old:
            async with self._connection.session() as session, deadline(self._connection.timeout_s):
                try:
                    await session.raw.queue_unbind(prefix + queue, prefix + exchange, key)
                except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
                    log.debug("%s is not unbound from %s: %s", queue, exchange, error)

    async def _drain_all(self) -> int:
        moved = await self._drain(OLD_DEAD, WORK, KEPT)
        moved += await self._drain(OLD_DEAD_WORK, WORK, ROUTES[WorkQueue.DEAD].key)
        for delay_s in self._retry_delays:
            moved += await self._drain(f"image.retry.{milliseconds(delay_s)}.v1", retry_name(delay_s), None)
        return moved

    async def _drain(self, queue: str, exchange: str, key: str | None) -> int:
        """Move all messages of a queue, each with its own key if `key` is None; return how many there were."""
        moved = 0
        async with self._connection.session() as session:
            while True:
                async with deadline(self._connection.timeout_s):
                    try:
                        raw = await session.raw.basic_get(self._connection.prefix + queue)
                    except (ChannelNotFoundEntity, ChannelAccessRefused):
                        return moved
                if isinstance(raw.delivery, Basic.GetEmpty):
                    return moved
                delivery = Delivery(raw)
                target = raw.routing_key if key is None else key
                if key is None and target not in _KEYS:
                    log.warning("dropped a message of %s whose key %.80r leads to no queue", queue, target)
                else:
                    # publish, then acknowledge: a crash between the two repeats the message
                    await self._publisher.publish(exchange, str(target), amqp_copy(delivery, self._headers(delivery)))
                await delivery.ack()
                moved += 1

    def _headers(self, delivery: Delivery) -> dict[str, Any]:
        """The headers of the copy: `amqp_copy` leaves out those that the bus itself has written."""
        if delivery.exchange == self._connection.prefix + DEAD or "reason" in delivery.headers:
            letter = parse_dead_letter(delivery, self._connection.prefix)
            return dead_letter_headers(letter.reason, letter.queue, letter.died_at)
        return {"failures": delivery.failures} if delivery.failures else {}
