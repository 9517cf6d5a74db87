"""The queue of dead letters, which operators list, redrive and drop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from pamqp.commands import Basic

from common.bus.port import DeadLetter, parse_queue_name
from common.bus.rabbitmq.codec import Delivery, amqp_copy, parse_dead_letter
from common.bus.rabbitmq.connection import BrokerConnection
from common.bus.rabbitmq.deadlines import deadline
from common.bus.rabbitmq.declaring import PoolQueues
from common.bus.rabbitmq.publisher import Publisher
from common.bus.rabbitmq.topology import DEAD_QUEUE, WORK, route_of

log = logging.getLogger(__name__)

# Of dead letters in memory at once; above it the list is incomplete. The queue has the same limits.
FETCH_LIMIT: Final = 10_000
FETCH_BYTES: Final = 100_000_000
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class DeadLetterQueue:
    """Each call fetches all messages without an acknowledgement, so they return when the channel is closed.

    Meanwhile another caller sees none. All are fetched because a quorum queue puts a returned message behind those
    that were returned before: if only some were fetched, the order would change.
    """

    def __init__(self, connection: BrokerConnection, publisher: Publisher, pools: PoolQueues) -> None:
        self._connection = connection
        self._publisher = publisher
        self._pools = pools

    async def oldest(self, limit: int) -> list[DeadLetter]:
        async with self._fetch_all() as fetched:
            return [letter for letter, _ in fetched[:limit]]

    async def count(self) -> int:
        async with self._connection.session() as session, deadline(self._connection.timeout_s):
            declared = await session.raw.queue_declare(self._connection.prefix + DEAD_QUEUE, passive=True)
        return declared.message_count or 0

    async def redrive(self, letter_id: str) -> bool:
        async with self._fetch_all() as fetched:
            for letter, delivery in fetched:
                if letter.id == letter_id:
                    queue, pool = parse_queue_name(letter.queue)
                    # publish, then acknowledge: a crash between the two repeats the message
                    async with self._pools.declared(queue, pool):
                        await self._publisher.publish(WORK, route_of(queue, pool).key, amqp_copy(delivery))
                    await delivery.ack()
                    return True
        return False

    async def drop(self, letter_id: str) -> bool:
        async with self._fetch_all() as fetched:
            found = [delivery for letter, delivery in fetched if letter.id == letter_id]
            for delivery in found:  # several if a process ended while it moved them from the queue of an older version
                await delivery.ack()
        return bool(found)

    @asynccontextmanager
    async def _fetch_all(self) -> AsyncIterator[list[tuple[DeadLetter, Delivery]]]:
        async with self._connection.session() as session:
            prefix = self._connection.prefix
            fetched: list[tuple[DeadLetter, Delivery]] = []
            size = 0
            while len(fetched) < FETCH_LIMIT and size < FETCH_BYTES:
                async with deadline(self._connection.timeout_s):
                    raw = await session.raw.basic_get(prefix + DEAD_QUEUE)
                if isinstance(raw.delivery, Basic.GetEmpty):
                    break
                size += len(raw.body)
                fetched.append((parse_dead_letter(Delivery(raw), prefix), Delivery(raw)))
            yield sorted(fetched, key=lambda pair: pair[0].died_at or _LONG_AGO)
