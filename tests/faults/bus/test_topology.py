"""Exchanges, queues and bindings that are missing or others, and tokens that are lost.

Each test is named after its row in the list of faults.
"""

import asyncio
import time
from datetime import timedelta

import pytest

from common.bus.port import Since, WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.bus.rabbitmq.topology import _AT_LEAST_ONCE, EVENTS, ROUTES
from common.domain.errors import Misconfigured, Unavailable
from common.runtime.clock import ManualClock
from tests.contract.bus.support import EPOCH, Recorder, event, is_waiting, now, order, some, until
from tests.faults.bus.support import is_refused, opened, raw_channel


@pytest.mark.fault(row=9)
async def test_a_missing_exchange_is_declared_again(vhost: str):
    async with opened(vhost) as bus, raw_channel(vhost) as channel:
        await channel.exchange_delete(EVENTS)
        with pytest.raises(Unavailable):
            await bus.publish(event(1))

        await until(lambda: bus.unready_reason == "")
        await bus.publish(event(2))
        assert len(await some(bus, Since(EPOCH), 1)) == 1


@pytest.mark.fault(row=9)
async def test_a_missing_binding_is_declared_again(vhost: str):
    route = ROUTES[WorkQueue.GENERATE]
    same = order()
    async with opened(vhost) as bus, raw_channel(vhost) as channel:
        await (await channel.get_queue(route.queue)).unbind(route.exchange, route.key)
        outcomes = await asyncio.gather(bus.send(same), bus.send(same), bus.send(order()), return_exceptions=True)
        await bus.send(order())

        assert all(map(is_refused, outcomes))
        await until(lambda: is_waiting(bus, 1))


@pytest.mark.fault(row=10)
async def test_a_queue_with_other_arguments_ends_the_start_by_name(vhost: str):
    name = ROUTES[WorkQueue.GENERATE].queue
    async with raw_channel(vhost) as channel:
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-dead-letter-exchange": "image.dead"}
        await channel.declare_queue(name, durable=True, arguments={**arguments, **_AT_LEAST_ONCE})

    with pytest.raises(Misconfigured, match=rf"{name}.*x-delivery-limit") as raised:
        async with opened(vhost):
            pytest.fail("it opened")
    assert "20" in raised.value.detail


@pytest.mark.fault(row=11)
async def test_a_deleted_queue_is_consumed_again_within_a_second(vhost: str):
    worker = Recorder()
    async with opened(vhost) as bus, bus.work(WorkQueue.GENERATE, worker, concurrency=1), raw_channel(vhost) as channel:
        await channel.queue_delete(ROUTES[WorkQueue.GENERATE].queue)
        began = time.monotonic()
        await until(lambda: _sent(bus))
        await worker.saw(1)
        took_s = time.monotonic() - began

    assert took_s < 2  # 0.3 s; twice the second for a busy machine


@pytest.mark.fault(row=52)
async def test_a_lost_token_is_armed_again(vhost: str):
    async with opened(vhost) as bus, raw_channel(vhost) as channel:
        await bus.arm("timer.purge", interval_s=60)
        await (await channel.get_queue("image.timer.purge.wait.60000.v1", ensure=False)).purge()

        assert await bus.arm("timer.purge", interval_s=60)
        await channel.queue_delete("image.timer.purge.wait.60000.v1")
        assert await bus.arm("timer.purge", interval_s=60)
        assert not await bus.arm("timer.purge", interval_s=60)


@pytest.mark.fault(row=17)
async def test_a_token_armed_by_a_fast_clock_fires_by_the_brokers(vhost: str):
    worker = Recorder()
    async with (
        opened(vhost, clock=ManualClock(now() + timedelta(hours=1))) as ahead,
        opened(vhost) as bus,
        bus.work(WorkQueue.PURGE, worker, concurrency=1),
    ):
        began = now()
        await ahead.arm("timer.purge", interval_s=0.1)
        await worker.saw(1)

    assert began - timedelta(seconds=1) <= worker.seen[0].time <= now()


async def _sent(bus: RabbitBus) -> bool:
    try:
        await bus.send(order())
    except Unavailable:
        return False
    return True
