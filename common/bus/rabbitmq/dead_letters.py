"""The queue of dead letters, which operators list, redrive and drop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from aio_pika import IncomingMessage
from pamqp.commands import Basic

from common.bus.port import DeadLetter, WorkQueue
from common.bus.rabbitmq.codec import Delivery, amqp_copy, parse_dead_letter
from common.bus.rabbitmq.connection import BrokerConnection
from common.bus.rabbitmq.deadlines import deadline
from common.bus.rabbitmq.publisher import Publisher
from common.bus.rabbitmq.topology import DEAD_QUEUE, ROUTES

log = logging.getLogger(__name__)

FETCH_LIMIT: Final = 10_000  # dead letters in memory at once, at most about 100 MB; above it the list is incomplete
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class DeadLetterQueue:
    """Each call fetches all messages without an acknowledgement, so they return when the channel is closed.

    Meanwhile another caller sees none. All are fetched because a quorum queue puts a returned message behind those
    that were returned before: if only some were fetched, the order would change.
    """

    def __init__(self, connection: BrokerConnection, publisher: Publisher) -> None:
        self._connection = connection
        self._publisher = publisher

    async def oldest(self, limit: int) -> list[DeadLetter]:
        async with self._fetch_all() as fetched:
            return [letter for letter, _ in fetched[:limit]]

    async def redrive(self, letter_id: str) -> bool:
        async with self._fetch_all() as fetched:
            for letter, delivery in fetched:
                if letter.id == letter_id:
                    exchange, key = _origin(letter)
                    # publish, then acknowledge: a crash between the two repeats the message
                    await self._publisher.publish(exchange, key, amqp_copy(delivery))
                    await delivery.ack()
                    return True
        return False

    async def drop(self, letter_id: str) -> bool:
        async with self._fetch_all() as fetched:
            for letter, delivery in fetched:
                if letter.id == letter_id:
                    await delivery.ack()
                    return True
        return False

    @asynccontextmanager
    async def _fetch_all(self) -> AsyncIterator[list[tuple[DeadLetter, Delivery]]]:
        async with self._connection.session() as session:
            fetched: list[tuple[DeadLetter, Delivery]] = []
            while len(fetched) < FETCH_LIMIT:
                async with deadline(self._connection.timeout_s):
                    raw = await session.raw.basic_get(DEAD_QUEUE)
                if isinstance(raw.delivery, Basic.GetEmpty):
                    break
                delivery = Delivery(IncomingMessage(raw), session.raw)
                fetched.append((parse_dead_letter(delivery), delivery))
            yield sorted(fetched, key=lambda pair: pair[0].died_at or _LONG_AGO)


def _origin(letter: DeadLetter) -> tuple[str, str]:
    if letter.queue in set(WorkQueue):
        route = ROUTES[WorkQueue(letter.queue)]
        return route.exchange, route.key
    return "", letter.queue  # a queue of another system, by the default exchange
