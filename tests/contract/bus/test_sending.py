"""Delivery of commands: one consumer, in order, after the delay."""

import asyncio
import time

import pytest

from common.bus.port import Bus, WorkQueue
from common.domain.errors import Invalid
from common.messages import GenerateImage
from tests.contract.bus.support import RETRY_DELAYS, Recorder, System, generate_command, is_waiting, now, until


async def test_send_reaches_exactly_one_of_several_consumers(system: System):
    buses = [await system.process() for _ in range(3)]
    handlers = [Recorder() for _ in buses]
    commands = [generate_command() for _ in range(30)]

    async with (
        buses[0].consume(WorkQueue.GENERATE, handlers[0], concurrency=2),
        buses[1].consume(WorkQueue.GENERATE, handlers[1], concurrency=2),
        buses[2].consume(WorkQueue.GENERATE, handlers[2], concurrency=2),
    ):
        await asyncio.gather(*(buses[0].send(each) for each in commands))
        await until(lambda: sum(len(handler.received) for handler in handlers) >= 30)

    assert sorted(name for handler in handlers for name in handler.ids) == sorted(each.id for each in commands)


async def test_a_consumer_handles_messages_in_order(bus: Bus):
    commands = [generate_command() for _ in range(20)]
    for each in commands:
        await bus.send(each)
    handler = Recorder()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await handler.wait_for(20)

    assert handler.ids == [each.id for each in commands]


async def test_a_delayed_command_waits_in_the_queue_for_its_delay(bus: Bus):
    handler = Recorder()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        began = time.monotonic()
        await bus.send(generate_command(), delay_s=RETRY_DELAYS[1])
        await until(lambda: is_waiting(bus, 1))
        await handler.wait_for(1)
        took_s = time.monotonic() - began

    assert took_s > RETRY_DELAYS[1] * 0.8


async def test_waiting_counts_queued_messages(bus: Bus):
    for _ in range(3):
        await bus.send(generate_command())

    await until(lambda: is_waiting(bus, 3))


@pytest.mark.fault(row=15)
async def test_a_message_too_large_is_refused_before_it_is_sent(bus: Bus):
    with pytest.raises(Invalid, match="at most 65536"):
        await bus.send(generate_command("x" * 70_000))


async def test_a_long_id_is_not_truncated(bus: Bus):
    handler = Recorder()
    sent = GenerateImage(id="é" * 300, source="é" * 200, subject="", time=now())

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(sent)
        await handler.wait_for(1)

    assert handler.ids == ["é" * 300]
