"""A link that is cut, silent or half open.

Each test is named after its row in the list of faults.
"""

import asyncio
import gc
import time

import pytest
from aio_pika import Connection

from common.bus.port import WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.bus.rabbitmq.consumer import Worker
from common.domain.errors import Unavailable, Unconfirmed
from tests.contract.bus.support import Recorder, event, order, until
from tests.faults.bus.support import RECOVERY_S, Reading, is_refused, is_well, opened
from tests.proxy import proxy_before
from tests.servers.process import free_ports


@pytest.mark.fault(row=4)
async def test_concurrency_holds_after_a_reconnect(vhost: str):
    worker = Recorder()
    worker.gate.clear()
    async with (
        proxy_before(vhost) as (proxy, url),
        opened(url) as bus,
        opened(vhost) as other,
        bus.work(WorkQueue.GENERATE, worker, concurrency=2),
    ):
        for _ in range(2):
            await bus.send(order())
        await worker.saw(2)
        taken_over = Recorder()
        async with other.work(WorkQueue.GENERATE, taken_over, concurrency=2):
            proxy.cut()
            await taken_over.saw(2)
        for _ in range(4):
            await other.send(order())
        await until(lambda: _pending(bus) == 2, limit_s=RECOVERY_S)
        in_hand = worker.running
        worker.gate.set()
        await worker.saw(6)

    assert (in_hand, worker.most_at_once) == (2, 2)


@pytest.mark.slow
@pytest.mark.fault(row=5)
async def test_a_half_open_connection_delays_events_but_loses_none(vhost: str):
    async with proxy_before(vhost) as (proxy, url), opened(url, heartbeat=1) as bus, opened(vhost) as other:
        worker = Recorder()
        reading = Reading(bus)
        async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
            await bus.publish(event(1))
            await reading.saw(1)
            proxy.half_open()
            late = event(2)
            await other.publish(late)
            await other.send(order())

            await reading.saw(2)
            await worker.saw(1, limit_s=RECOVERY_S)
            await reading.stop()

    assert reading.ids[-1] == late.id
    assert len(reading.ids) == 2


@pytest.mark.fault(row=6)
async def test_a_cut_before_the_confirm_leaves_the_outcome_unknown(vhost: str):
    async with proxy_before(vhost) as (proxy, url), opened(url, timeout_s=3) as bus:
        proxy.silence()
        publishing = [asyncio.create_task(bus.publish(event(number))) for number in range(100)]
        await asyncio.sleep(0)  # they start, and write
        proxy.resume()
        proxy.silence()
        proxy.cut()

        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        proxy.resume()
        await is_well(bus)
        await bus.publish(event(100))

    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert not all(map(is_refused, outcomes))


@pytest.mark.fault(row=6)
async def test_every_publish_has_an_outcome_over_repeated_cuts(vhost: str):
    events = [event(number) for number in range(300)]
    async with proxy_before(vhost) as (proxy, url), opened(url) as bus, opened(vhost) as other:

        async def cut_often() -> None:
            for _ in range(5):
                await asyncio.sleep(0.05)
                proxy.cut()

        reading = Reading(bus)
        cutting = asyncio.create_task(cut_often())
        outcomes = []
        for batch in range(0, 300, 30):
            publishing = (bus.publish(each) for each in events[batch : batch + 30])
            outcomes += await asyncio.gather(*publishing, return_exceptions=True)
        await cutting
        last = event(999)
        await other.publish(last)
        await until(lambda: last.id in reading.ids, limit_s=RECOVERY_S)
        await reading.stop()

    confirmed = [each.id for each, outcome in zip(events, outcomes, strict=True) if outcome is None]
    assert all(outcome is None or isinstance(outcome, Unavailable) for outcome in outcomes)
    assert set(confirmed) <= set(reading.ids)
    assert len(set(reading.ids)) == len(reading.ids)


@pytest.mark.fault(row=7)
async def test_a_blackholed_publish_is_unconfirmed_in_time(vhost: str):
    async with proxy_before(vhost) as (proxy, url), opened(url, timeout_s=0.5) as bus:
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(Unconfirmed):
            await bus.publish(event(1))
        took_s = time.monotonic() - began
        unready_reason = bus.unready_reason
        proxy.resume()

    assert took_s < 3
    assert unready_reason == "the broker has not confirmed the latest message"


async def test_closing_takes_no_longer_when_the_link_is_dead(vhost: str):
    async with proxy_before(vhost) as (proxy, url):
        async with opened(url) as bus, bus.work(WorkQueue.GENERATE, Recorder(), concurrency=1):
            proxy.silence()
            began = time.monotonic()
        took_s = time.monotonic() - began
        proxy.resume()

    assert took_s < 15


def _pending(bus: RabbitBus) -> int:
    return sum(len(taker._pending) for taker in bus._takers if isinstance(taker, Worker))


async def test_a_connection_that_never_came_up_is_closed(monkeypatch):
    """Its finalizer would close it, in a task of nobody, or after the end of the loop."""
    finalized = []
    monkeypatch.setattr(Connection, "__del__", lambda self: finalized.append(self.is_closed))

    async with RabbitBus.open(f"amqp://127.0.0.1:{free_ports(1)[0]}", name="test"):
        pass
    gc.collect()

    assert set(finalized) == {True}
