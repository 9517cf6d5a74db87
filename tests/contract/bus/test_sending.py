"""What is sent reaches one worker, in order, once its time has come."""

import asyncio
import time

import pytest

from common.bus.port import Bus, WorkQueue
from common.domain.errors import Invalid
from common.messages import GenerateImage
from tests.contract.bus.support import RETRY_DELAYS, Recorder, System, is_waiting, now, order, until


async def test_send_reaches_exactly_one_of_several_workers(system: System):
    buses = [await system.process() for _ in range(3)]
    workers = [Recorder() for _ in buses]
    orders = [order() for _ in range(30)]

    async with (
        buses[0].work(WorkQueue.GENERATE, workers[0], concurrency=2),
        buses[1].work(WorkQueue.GENERATE, workers[1], concurrency=2),
        buses[2].work(WorkQueue.GENERATE, workers[2], concurrency=2),
    ):
        await asyncio.gather(*(buses[0].send(each) for each in orders))
        await until(lambda: sum(len(worker.seen) for worker in workers) >= 30)

    assert sorted(name for worker in workers for name in worker.ids) == sorted(each.id for each in orders)


async def test_a_worker_handles_messages_in_the_order_they_came(bus: Bus):
    orders = [order() for _ in range(20)]
    for each in orders:
        await bus.send(each)
    worker = Recorder()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await worker.saw(20)

    assert worker.ids == [each.id for each in orders]


async def test_a_delayed_command_comes_after_its_delay_and_waits_meanwhile(bus: Bus):
    worker = Recorder()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        began = time.monotonic()
        await bus.send(order(), delay_s=RETRY_DELAYS[1])
        await until(lambda: is_waiting(bus, 1))
        await worker.saw(1)
        took_s = time.monotonic() - began

    assert took_s > RETRY_DELAYS[1] * 0.8


async def test_waiting_counts_what_is_queued(bus: Bus):
    for _ in range(3):
        await bus.send(order())

    await until(lambda: is_waiting(bus, 3))


@pytest.mark.fault(row=15)
async def test_a_message_too_large_is_refused_before_it_is_sent(bus: Bus):
    with pytest.raises(Invalid, match="at most 65536"):
        await bus.send(order("x" * 70_000))


async def test_an_odd_id_is_carried_whole(bus: Bus):
    worker = Recorder()
    sent = GenerateImage(id="é" * 300, source="s" * 300, subject="", time=now())

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(sent)
        await worker.saw(1)

    assert worker.ids == ["é" * 300]
