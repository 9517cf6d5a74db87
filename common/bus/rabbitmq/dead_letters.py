"""The dead letters as people see them: read without being taken, put back, or forgotten."""

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

FETCH_LIMIT: Final = 10_000  # letters held at once, some 100 MB at worst; past it people see a part
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class DeadLetterQueue:
    """All are fetched and not settled, so they go back when the channel is closed; meanwhile another sees none.

    All, because a quorum queue puts what comes back behind what came back before: a part would change the order.
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
                    # there, then gone from here: a crash in between repeats it
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
            yield sorted(fetched, key=lambda each: each[0].died_at or _LONG_AGO)


def _origin(letter: DeadLetter) -> tuple[str, str]:
    if letter.queue in set(WorkQueue):
        route = ROUTES[WorkQueue(letter.queue)]
        return route.exchange, route.key
    return "", letter.queue  # a queue of someone else's, by the default exchange
