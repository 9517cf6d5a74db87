"""Trouble from outside in a round of chaos: a foreign publisher, a full queue of a listener, media that fail.

The odd answers of the inference service are in tests/faults/faulty_inference.py.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aio_pika
from aio_pika.abc import AbstractChannel

from common.bus.rabbitmq.connection import SelfClosingConnection
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline
from tests.faults.fault_cluster import FaultCluster
from tests.faults.foreign import RIGHTS, SOURCE, ForeignPublisher, raise_if_cancelled
from tests.faults.media_trouble import MediaTrouble
from tests.servers.rabbitmq import RabbitMQ
from tests.waiting import until

EVENTS = "image.events"
LISTENER = "newsletter.listener"  # of another service, so its name does not begin with `image.`
FULL_AT = 3  # events; beyond them the queue refuses
SECRET = "newsletter"
BROKER_S = 5.0
RETRY_S = 0.3
REPAIR_S = 60.0  # a broker that was just killed takes up to 20 s to start


class Outside:
    """Runs all trouble from outside until it is cancelled; `repair` removes what is left of it."""

    def __init__(
        self, cluster: FaultCluster, publisher_url: str, dice: random.Random, others: Callable[[], list[str]]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.media_times: list[tuple[datetime, datetime]] = []
        self.publisher = ForeignPublisher(publisher_url, random.Random(dice.random()), others, pause_s=0.15)
        self._bus_url = cluster.bus_url
        self._media = MediaTrouble(cluster.media)
        self._listener_dice = random.Random(dice.random())
        self._media_dice = random.Random(dice.random())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.publisher.run())
            group.create_task(self._fill_queues())
            group.create_task(self._break_media())

    async def repair(self) -> None:
        """Delete the queue, whatever the broker does at the moment, and give the media back."""
        self._media.repair()
        await until(self._try_delete, limit_s=REPAIR_S, pause_s=RETRY_S)

    async def _fill_queues(self) -> None:
        dice = self._listener_dice
        while True:
            await asyncio.sleep(dice.uniform(1, 4))
            if await self._try_declare():
                self.counts["listener's queue full"] += 1
                await asyncio.sleep(dice.uniform(1, 4))
                await self._try_delete()

    async def _try_declare(self) -> bool:
        """A queue that takes every event, reads none, and refuses when it is full."""

        async def declare(channel: AbstractChannel) -> None:
            arguments: dict[str, Any] = {"x-max-length": FULL_AT, "x-overflow": "reject-publish"}
            queue = await channel.declare_queue(LISTENER, durable=True, arguments=arguments)
            await queue.bind(EVENTS, "#")

        return await self._try(declare)

    async def _try_delete(self) -> bool:
        return await self._try(lambda channel: channel.queue_delete(LISTENER))

    async def _try(self, act: Callable[[AbstractChannel], Awaitable[Any]]) -> bool:
        try:
            connecting = aio_pika.connect(self._bus_url, connection_class=SelfClosingConnection)
            async with deadline(BROKER_S), await connecting as connection:
                await act(await connection.channel())
                return True
        except BrokerUnavailable:
            raise_if_cancelled()
            return False

    async def _break_media(self) -> None:
        dice = self._media_dice
        while True:
            await asyncio.sleep(dice.uniform(2, 6))
            began = datetime.now(UTC)
            kind = dice.choice(["media read-only", "media gone"])
            if kind == "media gone" or not await asyncio.to_thread(self._media.make_read_only):
                kind = "media gone"
                self._media.take_away()
            self.counts[kind] += 1
            try:
                await asyncio.sleep(dice.uniform(0.5, 2))
            finally:
                self._media.repair()
                self.media_times.append((began, datetime.now(UTC)))


async def publisher_url(broker: RabbitMQ, bus_url: str) -> str:
    """The URL for a new user who may only publish to `image.commands`."""
    parts = urlsplit(bus_url)
    vhost = parts.path[1:]
    user = f"{SOURCE}-{vhost}"
    with suppress(Exception):  # of an earlier round on this broker
        await asyncio.to_thread(broker.ctl, "delete_user", user)
    await asyncio.to_thread(broker.ctl, "add_user", user, SECRET)
    await asyncio.to_thread(broker.ctl, "set_permissions", "-p", vhost, user, *RIGHTS)
    return urlunsplit(parts._replace(netloc=f"{user}:{SECRET}@{parts.netloc.rpartition('@')[2]}"))
