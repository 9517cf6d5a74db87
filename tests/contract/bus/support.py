"""Tools of the contract suite of the bus."""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import aio_pika

from common.bus.memory import MemoryBus
from common.bus.port import Bus, Done, Logged, Outcome, Start, WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.bus.rabbitmq.topology import COMMANDS, ROUTES
from common.domain.requests import GenerationRequest
from common.messages import CancelImage, Deleted, Event, GenerateImage, ImageDeleted, JanitorPurged, PurgeReport
from tests import waiting

RETRY_DELAYS = (0.1, 0.6)
LIMIT_S = 30.0  # for steps that take about 10 ms: a busy machine must not fail a test
until = partial(waiting.until, limit_s=LIMIT_S, pause_s=0.01)

EPOCH = datetime.now(UTC) - timedelta(minutes=1)  # before any event that a test publishes

_numbers = itertools.count(1)


class System(Protocol):
    """Several processes that share one bus."""

    async def process(self) -> Bus:
        """Open the bus of one more process."""

    async def inject(self, queue: WorkQueue, body: bytes) -> None:
        """Publish bytes as a foreign publisher."""


class MemorySystem:
    """The bus in memory has one process, so all share its bus."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    async def process(self) -> Bus:
        return self._bus

    async def inject(self, queue: WorkQueue, body: bytes) -> None:
        self._bus.inject(queue, body)


class RabbitSystem:
    """Its exchanges and queues have a prefix of their own, because a virtual host takes the broker 60 ms of a core."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack
        self._prefix = f"{secrets.token_hex(4)}."

    async def process(self) -> Bus:
        opened = RabbitBus.open(
            self._url, name="test", retry_delays=RETRY_DELAYS, timeout_s=LIMIT_S, prefix=self._prefix
        )
        return await self._stack.enter_async_context(opened)

    async def inject(self, queue: WorkQueue, body: bytes) -> None:
        route = ROUTES[queue]
        async with await aio_pika.connect(self._url) as connection, connection.channel() as channel:
            name = COMMANDS if COMMANDS in route.exchanges else route.exchange
            exchange = await channel.get_exchange(self._prefix + name)
            await exchange.publish(aio_pika.Message(body), route.key)


@asynccontextmanager
async def memory_system() -> AsyncIterator[System]:
    async with MemoryBus(name="test", retry_delays=RETRY_DELAYS) as bus:
        yield MemorySystem(bus)


@asynccontextmanager
async def rabbit_system(url: str) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        yield RabbitSystem(url, stack)


class Recorder:
    """A handler that records its messages and returns the given outcomes; it blocks while `gate` is not set."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.received: list = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = 0
        self.max_running = 0
        self._outcomes = iter(outcomes)
        self._news = asyncio.Condition()

    async def __call__(self, message) -> Outcome:
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        try:
            async with self._news:
                self.received.append(message)
                self._news.notify_all()
            await self.gate.wait()
            return next(self._outcomes, Done())
        finally:
            self.running -= 1

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.received]

    async def wait_for(self, count: int, *, limit_s: float = LIMIT_S) -> None:
        """Wait until `count` messages have been received."""
        async with asyncio.timeout(limit_s), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)


async def has_dead_letters(bus: Bus, count: int = 1) -> bool:
    return len(await bus.dead_letters(100)) >= count


async def is_waiting(bus: Bus, count: int) -> bool:
    return await bus.waiting(WorkQueue.GENERATE) == count


async def read_events(bus: Bus, start: Start, count: int, *, limit_s: float = LIMIT_S) -> list[Logged]:
    """The next `count` events from `start` on."""
    found: list[Logged] = []
    reader = bus.read(start)
    try:
        async with asyncio.timeout(limit_s):
            while len(found) < count:
                found.append(await anext(reader))
    finally:
        await reader.aclose()
    return found


def now() -> datetime:
    return datetime.now(UTC)


def generate_command(image_id: str | None = None) -> GenerateImage:
    number = next(_numbers)
    image_id = image_id or f"image-{number}"
    return GenerateImage(id=image_id, source="test", subject=image_id, time=now())


def order_command(image_id: str | None = None) -> GenerateImage:
    """The same command as another service sends it: with the request."""
    request = GenerationRequest(prompt="a lighthouse")
    return generate_command(image_id).model_copy(update={"owner": "ada", "data": request})


def cancel_command(image_id: str) -> CancelImage:
    return CancelImage(id=f"cancel-{next(_numbers)}", source="test", subject=image_id, time=now())


def image_event(number: int = 0) -> Event:
    return ImageDeleted(
        id=f"event-{next(_numbers)}",
        source="test",
        type="image.deleted",
        subject=f"image-{number}",
        time=now(),
        owner="ann",
        revision=number,
        attempt=1,
        data=Deleted(id=f"image-{number}"),
    )


def purge_event() -> Event:
    data = PurgeReport(older_than=now(), dry_run=True, images=0)
    return JanitorPurged(id=f"report-{next(_numbers)}", source="test", time=now(), data=data)
