"""Faults of the broker: restart, crash, alarm, full queue, closed connection or channel.

The number in the name of a test is its row in the list of faults.
"""

import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from common.bus.port import WorkQueue
from common.domain.errors import Unavailable, Unconfirmed
from tests.contract.bus.support import Recorder, generate_command, image_event, until
from tests.faults.bus.support import RECOVERY_S, LogReader, is_refused, open_rabbit_bus, wait_until_ready
from tests.servers.rabbitmq import RabbitMQ


@pytest.mark.long
@pytest.mark.fault(row=1)
@pytest.mark.fault(row=2)
@pytest.mark.fault(row=53)
@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_broker_restart_loses_and_repeats_nothing(own_rabbitmq: RabbitMQ, how: str):
    """The broker restarts while commands and a timer token wait and the log has a reader: all continue afterwards."""
    events = [image_event(number) for number in range(10)]
    commands = [generate_command() for _ in range(3)]
    generate_handler, tick_handler = Recorder(), Recorder()
    async with (
        open_rabbit_bus(own_rabbitmq.fresh_vhost()) as bus,
        bus.consume(WorkQueue.GENERATE, generate_handler, concurrency=1) as consumer,
    ):
        reader = LogReader(bus)
        await bus.arm("timer.purge", interval_s=4)  # it fires while the broker is down
        # a broker killed within 0.5 s of a queue declaration may lose the queue (Ra's directory, 3.10)
        await bus.send(generate_command(), delay_s=1)
        await generate_handler.wait_for(1)
        await consumer.pause()
        await asyncio.gather(*(bus.send(each) for each in commands))
        for each in events[:5]:
            await bus.publish(each)
        await reader.wait_for(5)

        await asyncio.to_thread(getattr(own_rabbitmq, how))
        with pytest.raises(Unavailable):
            await bus.publish(image_event(99))
        await until(lambda: bus.unready_reason != "")
        await asyncio.to_thread(own_rabbitmq.start)

        await wait_until_ready(bus)
        for each in events[5:]:
            await bus.publish(each)
        await reader.wait_for(10)
        await consumer.resume()
        await generate_handler.wait_for(4)
        async with bus.consume(WorkQueue.PURGE, tick_handler, concurrency=1):
            await tick_handler.wait_for(1)
            armed_again = await bus.arm("timer.purge", interval_s=60)
        await reader.stop()

    assert reader.ids == [each.id for each in events]
    assert sorted(generate_handler.ids[1:]) == sorted(each.id for each in commands)
    assert (len(tick_handler.received), armed_again) == (1, True)


@pytest.mark.fault(row=4)
@pytest.mark.long
async def test_consuming_continues_after_all_connections_close(rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    handler = Recorder()
    handler.gate.clear()
    first, second = generate_command(), generate_command()
    url = rabbitmq.fresh_vhost()
    async with open_rabbit_bus(url) as bus:
        async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
            await bus.send(first)
            await handler.wait_for(1)

            vhost = urlsplit(url).path[1:]
            await asyncio.to_thread(rabbitmq.ctl, "close_all_connections", "--vhost", vhost, "a test")
            await until(lambda: "is still in progress" in caplog.text, limit_s=RECOVERY_S)
            handler.gate.set()
            await wait_until_ready(bus)
            await bus.send(second)
            await handler.wait_for(2)
            assert await consumer.drain(5)

        assert handler.ids == [first.id, second.id]
        assert await bus.waiting(WorkQueue.GENERATE) == 0


@pytest.mark.long
@pytest.mark.fault(row=8)
async def test_an_alarm_stops_publishing_but_not_acks(own_rabbitmq: RabbitMQ):
    handler = Recorder()
    async with open_rabbit_bus(own_rabbitmq.fresh_vhost()) as bus:
        await wait_until_ready(bus)
        for _ in range(3):
            await bus.send(generate_command())
        await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0.00001")
        try:
            with pytest.raises(Unconfirmed):
                await bus.publish(image_event(1))
            async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
                await handler.wait_for(3)
                assert await consumer.drain(5)
            await until(lambda: "memory is full" in bus.unready_reason)
        finally:
            await asyncio.to_thread(own_rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")
        await wait_until_ready(bus)
        await bus.publish(image_event(2))

        assert await bus.waiting(WorkQueue.GENERATE) == 0


@pytest.mark.fault(row=12)
async def test_a_channel_closed_by_the_broker_is_opened_again(vhost: str, caplog: pytest.LogCaptureFixture):
    """The consumer timeout closes a channel too, but the broker checks it once a minute; this close is immediate."""
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    handler = Recorder()
    handler.gate.clear()
    async with open_rabbit_bus(vhost) as bus, bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await bus.send(generate_command())
        await handler.wait_for(1)
        await consumer._session.raw.basic_ack(999)  # PRECONDITION_FAILED, unknown delivery tag
        await until(lambda: "is still in progress" in caplog.text)
        handler.gate.set()
        assert await consumer.drain(5)

        assert len(handler.received) == 1
        assert await bus.waiting(WorkQueue.GENERATE) == 0


@pytest.mark.fault(row=14)
@pytest.mark.long
async def test_a_full_queue_refuses(rabbitmq: RabbitMQ):
    url = rabbitmq.fresh_vhost()
    policy = ("set_policy", "-p", urlsplit(url).path[1:], "full", "^image.work", '{"max-length": 1}')
    async with open_rabbit_bus(url) as bus:
        await asyncio.to_thread(rabbitmq.ctl, *policy, "--apply-to", "queues")

        async def is_full() -> bool:
            try:
                await bus.send(generate_command())
            except Unavailable as error:
                return is_refused(error)
            return False

        await until(is_full)  # a quorum queue accepts a few messages above its limit
