"""Messages that are acknowledged while their handler still runs."""

import asyncio
from datetime import timedelta

from common.bus.handling import acknowledge_early
from common.bus.port import Bus, Done, Outcome, Retry, WorkQueue
from tests.contract.bus.support import LIMIT_S, Recorder, System, generate_command, is_waiting, now, until


class EarlyRecorder(Recorder):
    """Acknowledges the first message when it comes, then waits at its gate."""

    async def __call__(self, message) -> Outcome:
        if not self.received:
            await acknowledge_early()
        return await super().__call__(message)


async def test_an_acknowledged_message_makes_room_for_the_next(bus: Bus):
    handler = EarlyRecorder()
    handler.gate.clear()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await asyncio.gather(*(bus.send(generate_command()) for _ in range(3)))
        await handler.wait_for(2)
        in_flight, drained = consumer.in_flight, await consumer.drain(0)
        handler.gate.set()
        assert await consumer.drain(LIMIT_S)

    assert (in_flight, drained, handler.max_running) == (2, False, 2)
    assert await is_waiting(bus, 1)


async def test_an_acknowledged_message_does_not_return(system: System):
    leaving, staying = await system.process(), await system.process()
    handler, later = EarlyRecorder(), Recorder()
    handler.gate.clear()
    acknowledged, taken = generate_command(), generate_command()

    async with leaving.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await leaving.send(acknowledged)
        await leaving.send(taken)
        await handler.wait_for(2)
    async with staying.consume(WorkQueue.GENERATE, later, concurrency=1):
        await later.wait_for(1)
        await until(lambda: is_waiting(staying, 0))

    assert later.ids == [taken.id]


async def test_an_acknowledged_message_can_be_retried(bus: Bus):
    handler = EarlyRecorder(Retry(0), Done())
    sent = generate_command()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(sent)
        await handler.wait_for(2)
        await until(lambda: is_waiting(bus, 0))

    assert handler.ids == [sent.id, sent.id]


async def test_a_message_for_an_image_follows_an_acknowledged_one(bus: Bus):
    handler = EarlyRecorder()
    handler.gate.clear()
    first = generate_command("image-1")

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(first)
        await handler.wait_for(1)
        await bus.send(first.model_copy(update={"time": now() + timedelta(seconds=1)}))
        await handler.wait_for(2)
        handler.gate.set()

    assert handler.ids == ["image-1", "image-1"]
