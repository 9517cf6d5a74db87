"""Row 16 of the faults: what the bus has given to a RabbitMQ is there under a newer one.

`make test-brokers` runs it, and names the folder of the newer brokers by `TEST_BROKERS`; else it is not collected.
RabbitMQ itself takes the data of 4.0 under 4.3, and refuses those of 3.10 under either: they lack feature flags of the
versions between. From 3.10 the definitions are carried over instead, and reconcile sends again what was waiting.
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
from tests.contract.bus.support import Recorder, event, now, order, some, until
from tests.servers.rabbitmq import SYSTEM, RabbitMQ, executable
from tests.servers.rabbitmq_engines import InstalledRabbitMQ

pytestmark = [pytest.mark.rabbitmq, pytest.mark.slow, pytest.mark.timeout(180)]  # a broker starts in about 6 s

BROKERS = Path(os.environ["TEST_BROKERS"])
OLD, MIDDLE, NEW = SYSTEM, BROKERS / "trixie", BROKERS / "sid"  # 3.10, 4.0, 4.3
EPOCH = now() - timedelta(minutes=1)
INTERVAL_S = 4.0  # longer than a broker needs to stop: the token still waits when it does
RETRY_DELAY_S = 4.0


def opened(url: str):
    return RabbitBus.open(url, name="test", retry_delays=(RETRY_DELAY_S,), timeout_s=10)


@contextmanager
def installed(root: Path) -> Iterator[tuple[RabbitMQ, InstalledRabbitMQ]]:
    """A broker of our own, and the engine that changes its installation."""
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
    """As the broker itself says when a connection is opened."""
    async with await aio_pika.connect(url) as connection:
        assert connection.transport
        text = str(connection.transport.connection.server_properties["version"])
        return tuple(int(number) for number in text.split(".")[:2])


@dataclass(frozen=True)
class Left:
    """What the older broker was left with."""

    waiting: Command
    delayed: Command
    rejected: Command
    events: list[Logged]


async def leave_something_of_each_kind(url: str) -> Left:
    waiting, delayed, rejected = order(), order(), order()
    async with opened(url) as bus:
        for number in range(4):
            await bus.publish(event(number))
        async with bus.work(WorkQueue.GENERATE, Recorder(Reject("a test")), concurrency=1) as consumer:
            await bus.send(rejected)
            await until(lambda: bus.dead_letters(1))
            assert await consumer.drain(10)
        await bus.send(waiting)
        await bus.send(delayed, delay_s=RETRY_DELAY_S)
        assert await bus.arm("timer.purge", interval_s=INTERVAL_S)
        return Left(waiting, delayed, rejected, events=await some(bus, Since(EPOCH), 4))


async def find_it_and_go_on(url: str, left: Left) -> None:
    working, ticking = Recorder(), Recorder()
    later, next_order = event(4), order()
    async with (
        opened(url) as bus,
        bus.work(WorkQueue.GENERATE, working, concurrency=1),
        bus.work(WorkQueue.PURGE, ticking, concurrency=1),
    ):
        await bus.publish(later)
        await working.saw(2)
        await bus.send(next_order)
        await working.saw(3)
        await ticking.saw(1)
        read = await some(bus, After(left.events[1].cursor), 3)
        letters = await bus.dead_letters(10)
        armed_again = await bus.arm("timer.purge", interval_s=INTERVAL_S)

        assert [letter.reason for letter in letters] == ["a test"]
        assert await bus.redrive(letters[0].id)
        await working.saw(4)

    assert sorted(working.ids[:2]) == sorted([left.waiting.id, left.delayed.id])
    assert working.ids[2:] == [next_order.id, left.rejected.id]
    assert ([tick.type for tick in ticking.seen], armed_again) == (["timer.purge"], True)
    assert read[:2] == left.events[2:]
    assert read[2].event.id == later.id


@pytest.mark.fault(row=16)
async def test_an_upgrade_keeps_orders_events_and_timers():
    with installed(MIDDLE) as (broker, engine):
        url = broker.fresh_vhost()
        left = await leave_something_of_each_kind(url)
        before = await version(url)
        await asyncio.to_thread(broker.ctl, "enable_feature_flag", "all")  # as RabbitMQ asks before each upgrade

        await asyncio.to_thread(broker.stop)
        engine.use(script_in(NEW), root=NEW)
        await asyncio.to_thread(broker.start)

        assert (4, 0) <= before < await version(url)
        await find_it_and_go_on(url, left)


@pytest.mark.parametrize("newer", [MIDDLE, NEW], ids=["4.0", "4.3"])
@pytest.mark.fault(row=16)
async def test_an_upgrade_that_rabbitmq_refuses_costs_nothing(newer: Path):
    with installed(OLD) as (broker, engine):
        url = broker.fresh_vhost()
        left = await leave_something_of_each_kind(url)
        assert (3, 10) <= await version(url) < (4, 0)
        await asyncio.to_thread(broker.ctl, "enable_feature_flag", "all")
        await asyncio.to_thread(broker.stop)

        engine.use(script_in(newer), root=newer)
        with pytest.raises(TimeoutError, match="disabled_required_feature_flag"):
            await asyncio.to_thread(broker.start)
        engine.use(script_in(OLD), root=OLD)
        await asyncio.to_thread(broker.start)

        assert (3, 10) <= await version(url) < (4, 0)
        await find_it_and_go_on(url, left)


@pytest.mark.parametrize("newer", [MIDDLE, NEW], ids=["4.0", "4.3"])
@pytest.mark.fault(row=16)
async def test_definitions_of_an_old_broker_serve_on_a_newer_one(newer: Path, tmp_path: Path):
    definitions = str(tmp_path / "definitions.json")
    with installed(OLD) as (broker, _):
        old_url = broker.fresh_vhost()
        async with opened(old_url) as bus:
            await bus.arm("timer.purge", interval_s=INTERVAL_S)  # messages are no part of the definitions
            await bus.publish(event(0))
            [logged] = await some(bus, Since(EPOCH), 1)
        await asyncio.to_thread(broker.ctl, "export_definitions", definitions)

    with installed(newer) as (broker, _):
        vhost = urlsplit(old_url).path
        await asyncio.to_thread(broker.ctl, "import_definitions", definitions)
        queues = await asyncio.to_thread(broker.ctl, "list_queues", "--vhost", vhost[1:], "name")
        assert {route.queue for route in ROUTES.values()} <= set(queues.split())

        url = urlsplit(broker.url)._replace(path=vhost).geturl()
        left = await leave_something_of_each_kind(url)
        await find_it_and_go_on(url, left)
        async with opened(url) as bus:
            with pytest.raises(CursorGone):
                await some(bus, After(logged.cursor), 1)
