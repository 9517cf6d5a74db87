"""What the tests of the broken bus share: a bus on RabbitMQ, a channel of a stranger, a reader at work."""

import asyncio
from contextlib import asynccontextmanager

import aio_pika

from common.bus.port import Since
from common.bus.rabbitmq.bus import RabbitBus
from common.domain.errors import Unavailable, Unconfirmed
from tests.contract.bus.support import EPOCH, until

RECOVERY_S = 30.0  # a broker needs 6 s to start, a half-open link 6 s to be found


def opened(url: str, **settings):
    return RabbitBus.open(url, **{"name": "test", "retry_delays": (0.2, 1), "timeout_s": 2, **settings})


@asynccontextmanager
async def raw_channel(url: str):
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        yield channel


class Reading:
    """A reader at work, and the ids it has seen."""

    def __init__(self, bus: RabbitBus) -> None:
        self.ids: list[str] = []
        self._task = asyncio.create_task(self._read(bus))

    async def _read(self, bus: RabbitBus) -> None:
        async for logged in bus.read(Since(EPOCH)):
            self.ids.append(logged.event.id)

    async def saw(self, count: int) -> None:
        await until(lambda: len(self.ids) >= count or self._task.done(), limit_s=RECOVERY_S)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def is_refused(outcome: BaseException | None) -> bool:
    """The broker does not have it, for sure."""
    return isinstance(outcome, Unavailable) and not isinstance(outcome, Unconfirmed)


async def is_well(bus: RabbitBus) -> None:
    await until(lambda: bus.unready_reason == "", limit_s=RECOVERY_S)
