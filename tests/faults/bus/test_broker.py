"""A broker that stops, is killed, is full, or closes what it had opened.

Each test is named after its row in the list of faults.
"""

import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from common.bus.port import WorkQueue
from common.domain.errors import Unavailable, Unconfirmed
from tests.contract.bus.support import Recorder, event, order, until
from tests.faults.bus.support import RECOVERY_S, Reading, is_refused, is_well, opened
from tests.servers.rabbitmq import RabbitMQ


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.fault(row=1)
@pytest.mark.fault(row=2)
@pytest.mark.fault(row=53)
async def test_a_broker_restart_loses_nothing_and_repeats_nothing(rabbitmq: RabbitMQ, how: str):
    events = [event(number) for number in range(10)]
    orders = [order() for _ in range(3)]
    working, ticking = Recorder(), Recorder()
    async with opened(rabbitmq.fresh_vhost()) as bus, bus.work(WorkQueue.GENERATE, working, concurrency=1) as consumer:
        reading = Reading(bus)
        await bus.arm("timer.purge", interval_s=4)  # it falls due while the broker is down
        # a broker that is killed within half a second of declaring a queue may forget it (Ra's directory, 3.10)
        await bus.send(order(), delay_s=1)
        await working.saw(1)
        await consumer.pause()
        await asyncio.gather(*(bus.send(each) for each in orders))
        for each in events[:5]:
            await bus.publish(each)
        await reading.saw(5)

        await asyncio.to_thread(getattr(rabbitmq, how))
        with pytest.raises(Unavailable):
            await bus.publish(event(99))
        await until(lambda: bus.unready_reason != "")
        await asyncio.to_thread(rabbitmq.start)

        await is_well(bus)
        for each in events[5:]:
            await bus.publish(each)
        await reading.saw(10)
        await consumer.resume()
        await working.saw(4)
        async with bus.work(WorkQueue.PURGE, ticking, concurrency=1):
            await ticking.saw(1)
            armed_again = await bus.arm("timer.purge", interval_s=60)
        await reading.stop()

    assert reading.ids == [each.id for each in events]
    assert sorted(working.ids[1:]) == sorted(each.id for each in orders)
    assert (len(ticking.seen), armed_again) == (1, True)


@pytest.mark.fault(row=4)
async def test_work_goes_on_when_every_connection_is_closed(rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    worker = Recorder()
    worker.gate.clear()
    first, second = order(), order()
    url = rabbitmq.fresh_vhost()
    async with opened(url) as bus:
        async with bus.work(WorkQueue.GENERATE, worker, concurrency=1) as consumer:
            await bus.send(first)
            await worker.saw(1)

            vhost = urlsplit(url).path[1:]
            await asyncio.to_thread(rabbitmq.ctl, "close_all_connections", "--vhost", vhost, "a test")
            await until(lambda: "is still in hand" in caplog.text, limit_s=RECOVERY_S)
            worker.gate.set()
            await is_well(bus)
            await bus.send(second)
            await worker.saw(2)
            assert await consumer.drain(5)

        assert worker.ids == [first.id, second.id]
        assert await bus.waiting(WorkQueue.GENERATE) == 0


@pytest.mark.fault(row=8)
async def test_under_an_alarm_publishing_stops_and_acks_go_on(rabbitmq: RabbitMQ):
    worker = Recorder()
    async with opened(rabbitmq.fresh_vhost(), timeout_s=1) as bus:
        for _ in range(3):
            await bus.send(order())
        await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.00001")
        try:
            with pytest.raises(Unconfirmed):
                await bus.publish(event(1))
            async with bus.work(WorkQueue.GENERATE, worker, concurrency=1) as consumer:
                await worker.saw(3)
                assert await consumer.drain(5)
            await until(lambda: "memory is full" in bus.unready_reason)
        finally:
            await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")
        await is_well(bus)
        await bus.publish(event(2))

        assert await bus.waiting(WorkQueue.GENERATE) == 0


@pytest.mark.fault(row=12)
async def test_a_channel_that_the_broker_closes_is_opened_again(vhost: str, caplog: pytest.LogCaptureFixture):
    """As the consumer timeout does, which takes a minute to be noticed by the broker: the same close, made at once."""
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    worker = Recorder()
    worker.gate.clear()
    async with opened(vhost) as bus, bus.work(WorkQueue.GENERATE, worker, concurrency=1) as consumer:
        await bus.send(order())
        await worker.saw(1)
        await consumer._session.raw.basic_ack(999)  # PRECONDITION_FAILED, unknown delivery tag
        await until(lambda: "is still in hand" in caplog.text)
        worker.gate.set()
        assert await consumer.drain(5)

        assert len(worker.seen) == 1
        assert await bus.waiting(WorkQueue.GENERATE) == 0


@pytest.mark.fault(row=14)
async def test_a_full_queue_refuses(rabbitmq: RabbitMQ):
    url = rabbitmq.fresh_vhost()
    policy = ("set_policy", "-p", urlsplit(url).path[1:], "full", "^image.commands", '{"max-length": 1}')
    async with opened(url) as bus:
        await asyncio.to_thread(rabbitmq.ctl, *policy, "--apply-to", "queues")

        async def is_full() -> bool:
            try:
                await bus.send(order())
            except Unavailable as error:
                return is_refused(error)
            return False

        await until(is_full)  # a quorum queue takes some more than its limit
