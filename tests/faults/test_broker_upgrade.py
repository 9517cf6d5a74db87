"""Row 16 of the faults: an upgrade of RabbitMQ keeps the messages of the bus.

`make test-brokers` runs it and sets `TEST_BROKERS` to the folder of the newer brokers; otherwise it is not collected.
RabbitMQ 4.3 accepts the data of 4.0, but 4.0 and 4.3 refuse the data of 3.10, which lacks feature flags of the versions
between. From 3.10 only the definitions are transferred, and reconcile sends the waiting commands again.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest

from common.bus.port import After, Logged, Reject, Since, WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.bus.rabbitmq.topology import ROUTES
from common.domain.errors import CursorGone
from common.messages import Command
from tests.contract.bus.support import Recorder, generate_command, image_event, now, read_events, until
from tests.servers.rabbitmq import SYSTEM, RabbitMQ, executable
from tests.servers.rabbitmq_engines import InstalledRabbitMQ

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow, pytest.mark.timeout(180)]  # a broker starts in about 6 s

BROKERS = Path(os.environ["TEST_BROKERS"])
OLD, MIDDLE, NEW = SYSTEM, BROKERS / "trixie", BROKERS / "sid"  # 3.10, 4.0, 4.3
EPOCH = now() - timedelta(minutes=1)
INTERVAL_S = 4.0  # longer than a broker needs to stop, so the token still waits then
RETRY_DELAY_S = 4.0


def open_rabbit_bus(url: str):
    return RabbitBus.open(url, name="test", retry_delays=(RETRY_DELAY_S,), timeout_s=10)


@contextmanager
def installed(root: Path) -> Iterator[tuple[RabbitMQ, InstalledRabbitMQ]]:
    """Start a separate broker; the engine can change its installation."""
    engine = InstalledRabbitMQ(script_in(root), root=root)
    broker = RabbitMQ(engine)
    try:
        yield broker, engine
    finally:
        broker.close()


def script_in(root: Path) -> Path:
    script = executable(root)
    assert script, f"no RabbitMQ in {root}: sh scripts/get-brokers.sh"
    return script


async def version(url: str) -> tuple[int, ...]:
    """The version that the broker reports when a connection is opened."""
    async with await aio_pika.connect(url) as connection:
        assert connection.transport
        text = str(connection.transport.connection.server_properties["version"])
        return tuple(int(number) for number in text.split(".")[:2])


@dataclass(frozen=True)
class Stored:
    """What the older broker has stored."""

    waiting: Command
    delayed: Command
    rejected: Command
    events: list[Logged]


async def store_one_of_each(url: str) -> Stored:
    waiting, delayed, rejected = generate_command(), generate_command(), generate_command()
    async with open_rabbit_bus(url) as bus:
        for number in range(4):
            await bus.publish(image_event(number))
        async with bus.consume(WorkQueue.GENERATE, Recorder(Reject("a test")), concurrency=1) as consumer:
            await bus.send(rejected)
            await until(lambda: bus.dead_letters(1))
            assert await consumer.drain(10)
        await bus.send(waiting)
        await bus.send(delayed, delay_s=RETRY_DELAY_S)
        assert await bus.arm("timer.purge", interval_s=INTERVAL_S)
        return Stored(waiting, delayed, rejected, events=await read_events(bus, Since(EPOCH), 4))


async def check_stored_and_continue(url: str, stored: Stored) -> None:
    generate_handler, tick_handler = Recorder(), Recorder()
    later, next_command = image_event(4), generate_command()
    async with (
        open_rabbit_bus(url) as bus,
        bus.consume(WorkQueue.GENERATE, generate_handler, concurrency=1),
        bus.consume(WorkQueue.PURGE, tick_handler, concurrency=1),
    ):
        await bus.publish(later)
        await generate_handler.wait_for(2)
        await bus.send(next_command)
        await generate_handler.wait_for(3)
        await tick_handler.wait_for(1)
        read = await read_events(bus, After(stored.events[1].cursor), 3)
        letters = await bus.dead_letters(10)
        armed_again = await bus.arm("timer.purge", interval_s=INTERVAL_S)

        assert [letter.reason for letter in letters] == ["a test"]
        assert await bus.redrive(letters[0].id)
        await generate_handler.wait_for(4)

    assert sorted(generate_handler.ids[:2]) == sorted([stored.waiting.id, stored.delayed.id])
    assert generate_handler.ids[2:] == [next_command.id, stored.rejected.id]
    assert ([tick.type for tick in tick_handler.received], armed_again) == (["timer.purge"], True)
    assert read[:2] == stored.events[2:]
    assert read[2].event.id == later.id


@pytest.mark.fault(row=16)
async def test_an_upgrade_keeps_commands_events_and_timers():
    with installed(MIDDLE) as (broker, engine):
        url = broker.fresh_vhost()
        stored = await store_one_of_each(url)
        before = await version(url)
        await asyncio.to_thread(broker.ctl, "enable_feature_flag", "all")  # RabbitMQ requires this before each upgrade

        await asyncio.to_thread(broker.stop)
        engine.use(script_in(NEW), root=NEW)
        await asyncio.to_thread(broker.start)

        assert (4, 0) <= before < await version(url)
        await check_stored_and_continue(url, stored)


@pytest.mark.fault(row=16)
@pytest.mark.parametrize("newer", [MIDDLE, NEW], ids=["4.0", "4.3"])
async def test_an_upgrade_that_rabbitmq_refuses_costs_nothing(newer: Path):
    with installed(OLD) as (broker, engine):
        url = broker.fresh_vhost()
        stored = await store_one_of_each(url)
        assert (3, 10) <= await version(url) < (4, 0)
        await asyncio.to_thread(broker.ctl, "enable_feature_flag", "all")
        await asyncio.to_thread(broker.stop)

        engine.use(script_in(newer), root=newer)
        with pytest.raises(TimeoutError, match="disabled_required_feature_flag"):
            await asyncio.to_thread(broker.start)
        engine.use(script_in(OLD), root=OLD)
        await asyncio.to_thread(broker.start)

        assert (3, 10) <= await version(url) < (4, 0)
        await check_stored_and_continue(url, stored)


@pytest.mark.fault(row=16)
@pytest.mark.parametrize("newer", [MIDDLE, NEW], ids=["4.0", "4.3"])
async def test_old_definitions_work_on_a_newer_broker(newer: Path, tmp_path: Path):
    definitions = str(tmp_path / "definitions.json")
    with installed(OLD) as (broker, _):
        old_url = broker.fresh_vhost()
        async with open_rabbit_bus(old_url) as bus:
            await bus.arm("timer.purge", interval_s=INTERVAL_S)  # the definitions contain no messages
            await bus.publish(image_event(0))
            [logged] = await read_events(bus, Since(EPOCH), 1)
        await asyncio.to_thread(broker.ctl, "export_definitions", definitions)

    with installed(newer) as (broker, _):
        vhost = urlsplit(old_url).path
        await asyncio.to_thread(broker.ctl, "import_definitions", definitions)
        queues = await asyncio.to_thread(broker.ctl, "list_queues", "--vhost", vhost[1:], "name")
        assert {route.queue for route in ROUTES.values()} <= set(queues.split())

        url = urlsplit(broker.url)._replace(path=vhost).geturl()
        stored = await store_one_of_each(url)
        await check_stored_and_continue(url, stored)
        async with open_rabbit_bus(url) as bus:
            with pytest.raises(CursorGone):
                await read_events(bus, After(logged.cursor), 1)
