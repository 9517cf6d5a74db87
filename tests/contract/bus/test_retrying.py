"""Retries and their limit."""

import asyncio
import time

import pytest

from common.bus.port import Bus, Done, Retry, WorkQueue
from common.messages import Tick, encode
from tests.contract.bus.support import (
    LIMIT_S,
    RETRY_DELAYS,
    Recorder,
    System,
    cancel_command,
    generate_command,
    has_dead_letters,
    now,
    until,
)


async def test_retry_delivers_again_after_the_delay(bus: Bus):
    handler = Recorder(Retry(RETRY_DELAYS[1]))
    sent = generate_command()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(sent)
        await handler.wait_for(1)
        began = time.monotonic()
        await handler.wait_for(2)
        took_s = time.monotonic() - began

    assert handler.ids == [sent.id, sent.id]
    assert took_s > RETRY_DELAYS[1] * 0.8


async def test_retry_uses_no_concurrency_meanwhile(bus: Bus):
    handler = Recorder(Retry(RETRY_DELAYS[1]))
    first, second = generate_command(), generate_command()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(first)
        await bus.send(second)
        await handler.wait_for(3)

    assert handler.ids == [first.id, second.id, first.id]


@pytest.mark.parametrize("queue", [WorkQueue.CANCEL, WorkQueue.PURGE, WorkQueue.DEAD])
async def test_retry_comes_back_to_its_own_queue(system: System, bus: Bus, queue: WorkQueue):
    handler = Recorder(Retry(RETRY_DELAYS[0]))
    letter = generate_command()

    async with bus.consume(queue, handler, concurrency=1):
        match queue:
            case WorkQueue.CANCEL:
                await bus.send(cancel_command("image-1"))
            case WorkQueue.PURGE:
                await bus.tick(Tick(id="tick-1", source="test", type="timer.purge", time=now()))
            case _:
                await system.inject(WorkQueue.GENERATE, encode(letter)[:-1])
                async with bus.consume(WorkQueue.GENERATE, Recorder(), concurrency=1):
                    await handler.wait_for(1)
        await handler.wait_for(2)

    assert handler.received[0] == handler.received[1]


async def test_a_handler_that_raises_is_retried(bus: Bus, caplog: pytest.LogCaptureFixture):
    attempts = Recorder()

    async def handler(message) -> Done:
        await attempts(message)
        if len(attempts.received) == 1:
            raise ValueError("broken")
        return Done()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(generate_command("image-1"))
        await attempts.wait_for(2)

    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]


async def test_a_cancelled_error_of_a_library_counts_as_a_failure(bus: Bus):
    attempts = Recorder()

    async def handler(message) -> Done:
        await attempts(message)
        if len(attempts.received) == 1:
            raise asyncio.CancelledError
        return Done()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await bus.send(generate_command())
        await attempts.wait_for(2)
        assert await consumer.drain(LIMIT_S)

    assert len(attempts.received) == 2


async def test_a_handler_that_keeps_raising_makes_a_dead_letter(system: System, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("common.bus.handling.MAX_FAILURES", 3)
    bus = await system.process()
    attempts = Recorder()

    async def handler(message) -> Done:
        await attempts(message)
        raise ValueError("broken")

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(generate_command())
        await until(lambda: has_dead_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert len(attempts.received) == 3
    assert letter.reason == "the handler failed 3 times in a row, last with ValueError"
