"""Faults of a connection: cut, silent or half open.

The number in the name of a test is its row in the list of faults.
"""

import asyncio
import gc
import time

import pytest
from aio_pika import Connection

from common.bus.port import WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.bus.rabbitmq.consumer import RabbitConsumer
from common.domain.errors import Unavailable, Unconfirmed
from tests.contract.bus.support import Recorder, generate_command, image_event, until
from tests.faults.bus.support import RECOVERY_S, LogReader, is_refused, open_rabbit_bus, wait_until_ready
from tests.proxy import proxy_before
from tests.servers.process import free_ports


@pytest.mark.fault(row=4)
@pytest.mark.long
async def test_a_reconnect_does_not_exceed_the_concurrency(vhost: str):
    handler = Recorder()
    handler.gate.clear()
    async with (
        proxy_before(vhost) as (proxy, url),
        open_rabbit_bus(url) as bus,
        open_rabbit_bus(vhost) as other,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=2),
    ):
        for _ in range(2):
            await bus.send(generate_command())
        await handler.wait_for(2)
        taken_over = Recorder()
        async with other.consume(WorkQueue.GENERATE, taken_over, concurrency=2):
            proxy.cut()
            await taken_over.wait_for(2)
        for _ in range(4):
            await other.send(generate_command())
        await until(lambda: _pending(bus) == 2, limit_s=RECOVERY_S)
        in_flight = handler.running
        handler.gate.set()
        await handler.wait_for(6)

    assert (in_flight, handler.max_running) == (2, 2)


@pytest.mark.fault(row=5)
@pytest.mark.long
@pytest.mark.slow
async def test_a_half_open_connection_delays_events_but_loses_none(vhost: str):
    async with (
        proxy_before(vhost) as (proxy, url),
        open_rabbit_bus(url, heartbeat=1) as bus,
        open_rabbit_bus(vhost) as other,
    ):
        handler = Recorder()
        reader = LogReader(bus)
        async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
            await bus.publish(image_event(1))
            await reader.wait_for(1)
            proxy.half_open()
            late = image_event(2)
            await other.publish(late)
            await other.send(generate_command())

            await reader.wait_for(2)
            await handler.wait_for(1, limit_s=RECOVERY_S)
            await reader.stop()

    assert reader.ids[-1] == late.id
    assert len(reader.ids) == 2


@pytest.mark.fault(row=6)
async def test_a_connection_cut_before_the_confirm_is_unconfirmed(vhost: str):
    async with proxy_before(vhost) as (proxy, url), open_rabbit_bus(url, timeout_s=3) as bus:
        proxy.silence()
        publishing = [asyncio.create_task(bus.publish(image_event(number))) for number in range(100)]
        await asyncio.sleep(0)  # let them start and write
        proxy.resume()
        proxy.silence()
        proxy.cut()

        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        proxy.resume()
        await wait_until_ready(bus)
        await bus.publish(image_event(100))

    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert not all(map(is_refused, outcomes))


@pytest.mark.fault(row=6)
async def test_each_publish_has_an_outcome_under_repeated_cuts(vhost: str):
    events = [image_event(number) for number in range(300)]
    async with proxy_before(vhost) as (proxy, url), open_rabbit_bus(url) as bus, open_rabbit_bus(vhost) as other:

        async def cut_often() -> None:
            for _ in range(5):
                await asyncio.sleep(0.05)
                proxy.cut()

        reader = LogReader(bus)
        cutting = asyncio.create_task(cut_often())
        outcomes = []
        for batch in range(0, 300, 30):
            publishing = (bus.publish(each) for each in events[batch : batch + 30])
            outcomes += await asyncio.gather(*publishing, return_exceptions=True)
        await cutting
        last = image_event(999)
        await other.publish(last)
        await until(lambda: last.id in reader.ids, limit_s=RECOVERY_S)
        await reader.stop()

    confirmed = [each.id for each, outcome in zip(events, outcomes, strict=True) if outcome is None]
    assert all(outcome is None or isinstance(outcome, Unavailable) for outcome in outcomes)
    assert set(confirmed) <= set(reader.ids)
    assert len(set(reader.ids)) == len(reader.ids)


@pytest.mark.fault(row=7)
@pytest.mark.long
async def test_a_blackholed_publish_is_unconfirmed_in_time(vhost: str):
    async with proxy_before(vhost) as (proxy, url), open_rabbit_bus(url, timeout_s=3) as bus:
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(Unconfirmed):
            await bus.publish(image_event(1))
        took_s = time.monotonic() - began
        unready_reason = bus.unready_reason
        proxy.resume()

    assert took_s < 15
    assert unready_reason == "the broker has not confirmed the latest message"


async def test_closing_is_quick_when_the_connection_is_dead(vhost: str):
    async with proxy_before(vhost) as (proxy, url):
        async with open_rabbit_bus(url) as bus, bus.consume(WorkQueue.GENERATE, Recorder(), concurrency=1):
            proxy.silence()
            began = time.monotonic()
        took_s = time.monotonic() - began
        proxy.resume()

    assert took_s < 15


def _pending(bus: RabbitBus) -> int:
    return sum(len(consumer._pending) for consumer in bus._consumers if isinstance(consumer, RabbitConsumer))


async def test_a_connection_that_never_came_up_is_closed(monkeypatch):
    """Otherwise its finalizer closes it, in a task without an owner or after the end of the event loop."""
    gc.collect()  # connections of other tests
    finalized = []
    monkeypatch.setattr(Connection, "__del__", lambda self: finalized.append(self.is_closed))

    async with RabbitBus.open(f"amqp://127.0.0.1:{free_ports(1)[0]}", name="test"):
        pass
    gc.collect()

    assert set(finalized) == {True}
