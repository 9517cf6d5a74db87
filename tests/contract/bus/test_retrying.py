"""What is tried again, and where that ends."""

import asyncio
import time

import pytest

from common.bus.port import Bus, Done, Retry, WorkQueue
from common.messages import Tick, encode
from tests.contract.bus.support import LIMIT_S, RETRY_DELAYS, Recorder, System, cancel, has_letters, now, order, until


async def test_retry_delivers_again_after_the_delay(bus: Bus):
    worker = Recorder(Retry(RETRY_DELAYS[1]))
    sent = order()

    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(sent)
        await worker.saw(1)
        began = time.monotonic()
        await worker.saw(2)
        took_s = time.monotonic() - began

    assert worker.ids == [sent.id, sent.id]
    assert took_s > RETRY_DELAYS[1] * 0.8


async def test_retry_holds_no_slot_meanwhile(bus: Bus):
    worker = Recorder(Retry(RETRY_DELAYS[1]))
    first, second = order(), order()

    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(first)
        await bus.send(second)
        await worker.saw(3)

    assert worker.ids == [first.id, second.id, first.id]


@pytest.mark.parametrize("queue", [WorkQueue.CANCEL, WorkQueue.PURGE, WorkQueue.DEAD])
async def test_retry_comes_back_to_its_own_queue(system: System, bus: Bus, queue: WorkQueue):
    worker = Recorder(Retry(RETRY_DELAYS[0]))
    letter = order()

    async with bus.consume(queue, worker, concurrency=1):
        match queue:
            case WorkQueue.CANCEL:
                await bus.send(cancel("image-1"))
            case WorkQueue.PURGE:
                await bus.tick(Tick(id="tick-1", source="test", type="timer.purge", time=now()))
            case _:
                await system.inject(WorkQueue.GENERATE, encode(letter)[:-1])
                async with bus.consume(WorkQueue.GENERATE, Recorder(), concurrency=1):
                    await worker.saw(1)
        await worker.saw(2)

    assert worker.seen[0] == worker.seen[1]


async def test_a_handler_that_raises_is_retried(bus: Bus, caplog: pytest.LogCaptureFixture):
    tried = Recorder()

    async def handler(message) -> Done:
        await tried(message)
        if len(tried.seen) == 1:
            raise ValueError("broken")
        return Done()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(order("image-1"))
        await tried.saw(2)

    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]


async def test_a_cancellation_out_of_a_library_is_a_failure_as_any(bus: Bus):
    tried = Recorder()

    async def handler(message) -> Done:
        await tried(message)
        if len(tried.seen) == 1:
            raise asyncio.CancelledError
        return Done()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await bus.send(order())
        await tried.saw(2)
        assert await consumer.drain(LIMIT_S)

    assert len(tried.seen) == 2


async def test_a_handler_that_keeps_raising_makes_a_dead_letter(system: System, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("common.bus.handling.MAX_FAILURES", 3)
    bus = await system.process()
    tried = Recorder()

    async def handler(message) -> Done:
        await tried(message)
        raise ValueError("broken")

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(order())
        await until(lambda: has_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert len(tried.seen) == 3
    assert letter.reason == "the handler failed 3 times in a row, last with ValueError"
