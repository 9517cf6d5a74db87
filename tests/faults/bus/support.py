"""Tools of the fault tests of the bus on RabbitMQ."""

import asyncio
from contextlib import asynccontextmanager

import aio_pika

from common.bus.port import Since
from common.bus.rabbitmq.bus import RabbitBus
from common.domain.errors import Unavailable, Unconfirmed
from tests.contract.bus.support import EPOCH, until

RECOVERY_S = 60.0  # a broker starts in 6 s, a half-open connection is detected in 6 s


def open_rabbit_bus(url: str, **settings):
    return RabbitBus.open(url, **{"name": "test", "retry_delays": (0.2, 1), "timeout_s": 2, **settings})


@asynccontextmanager
async def raw_channel(url: str):
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        yield channel


class LogReader:
    """Reads the log in a task and collects the event ids."""

    def __init__(self, bus: RabbitBus) -> None:
        self.ids: list[str] = []
        self._task = asyncio.create_task(self._read(bus))

    async def _read(self, bus: RabbitBus) -> None:
        async for logged in bus.read(Since(EPOCH)):
            self.ids.append(logged.event.id)

    async def wait_for(self, count: int) -> None:
        await until(lambda: len(self.ids) >= count or self._task.done(), limit_s=RECOVERY_S)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def is_refused(outcome: BaseException | None) -> bool:
    """The outcome says for certain that the broker does not have the message."""
    return isinstance(outcome, Unavailable) and not isinstance(outcome, Unconfirmed)


async def wait_until_ready(bus: RabbitBus) -> None:
    await until(lambda: bus.unready_reason == "", limit_s=RECOVERY_S)
