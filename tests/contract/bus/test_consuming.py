"""Consumers: concurrency, pause, drain, messages in flight."""

import asyncio

from common.bus.port import Bus, Done, Reject, Since, WorkQueue
from tests.contract.bus.support import (
    EPOCH,
    LIMIT_S,
    Recorder,
    System,
    cancel_command,
    generate_command,
    has_dead_letters,
    image_event,
    read_events,
    until,
)


async def test_a_consumer_runs_as_many_handlers_as_its_concurrency(bus: Bus):
    handler = Recorder()
    handler.gate.clear()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=3) as consumer:
        await asyncio.gather(*(bus.send(generate_command()) for _ in range(6)))
        await handler.wait_for(3)
        in_flight = consumer.in_flight
        handler.gate.set()
        await handler.wait_for(6)

    assert (in_flight, handler.max_running) == (3, 3)


async def test_done_deletes_the_message(bus: Bus):
    handler = Recorder(Done())
    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await bus.send(generate_command())
        await handler.wait_for(1)
        await until(lambda: consumer.in_flight == 0)

    later = Recorder()
    sent = generate_command()
    async with bus.consume(WorkQueue.GENERATE, later, concurrency=1):
        await bus.send(sent)
        await later.wait_for(1)

    assert later.ids == [sent.id]
    assert await bus.dead_letters(10) == []


async def test_a_second_message_of_a_subject_shares_the_outcome(bus: Bus):
    handler = Recorder()
    handler.gate.clear()
    marker = generate_command("image-2")

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=2) as consumer:
        await bus.send(generate_command("image-1"))
        await handler.wait_for(1)
        await bus.send(generate_command("image-1"))
        await bus.send(marker)  # arrives after the second message, so when it is handled the second was delivered
        await handler.wait_for(2)
        handler.gate.set()
        assert await consumer.drain(LIMIT_S)

    assert [message.subject for message in handler.received] == ["image-1", "image-2"]
    assert await bus.waiting(WorkQueue.GENERATE) == 0


async def test_different_queues_handle_one_subject_at_once(bus: Bus):
    generating, cancelling = Recorder(), Recorder()
    generating.gate.clear()

    async with (
        bus.consume(WorkQueue.GENERATE, generating, concurrency=1),
        bus.consume(WorkQueue.CANCEL, cancelling, concurrency=1),
    ):
        await bus.send(generate_command("image-1"))
        await generating.wait_for(1)
        await bus.send(cancel_command("image-1"))
        await cancelling.wait_for(1)

    assert cancelling.received[0].subject == "image-1"


async def test_leaving_requeues_messages_in_flight(system: System):
    leaving, staying = await system.process(), await system.process()
    first, second = Recorder(), Recorder()
    first.gate.clear()
    commands = [generate_command(), generate_command()]

    async with leaving.consume(WorkQueue.GENERATE, first, concurrency=2):
        for each in commands:
            await leaving.send(each)
        await first.wait_for(2)
    async with staying.consume(WorkQueue.GENERATE, second, concurrency=1):
        await second.wait_for(2)

    assert first.running == 0
    assert second.ids == [each.id for each in commands]


async def test_pause_leaves_messages_to_others_until_resume(system: System):
    pausing, other = await system.process(), await system.process()
    first, second = Recorder(), Recorder()

    async with pausing.consume(WorkQueue.GENERATE, first, concurrency=1) as consumer:
        await consumer.pause()
        await pausing.send(generate_command("image-1"))
        async with other.consume(WorkQueue.GENERATE, second, concurrency=1) as other_taking:
            await second.wait_for(1)
            await other_taking.drain(LIMIT_S)
        await consumer.resume()
        await pausing.send(generate_command("image-2"))
        await first.wait_for(1)

    assert [message.subject for message in second.received] == ["image-1"]
    assert [message.subject for message in first.received] == ["image-2"]


async def test_pause_lets_running_handlers_finish(bus: Bus):
    handler = Recorder(Reject("handled"))
    handler.gate.clear()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await bus.send(generate_command())
        await handler.wait_for(1)
        await consumer.pause()
        handler.gate.set()
        await until(lambda: has_dead_letters(bus))

    assert [letter.reason for letter in await bus.dead_letters(10)] == ["handled"]


async def test_drain_waits_for_running_handlers_and_takes_no_more(bus: Bus):
    handler = Recorder()
    handler.gate.clear()
    first, second = generate_command(), generate_command()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await bus.send(first)
        await handler.wait_for(1)
        was_in_time = await consumer.drain(0.01)
        await bus.send(second)
        handler.gate.set()
        drained = await consumer.drain(LIMIT_S)

    assert (was_in_time, drained) == (False, True)
    assert handler.ids == [first.id]
    assert await bus.waiting(WorkQueue.GENERATE) == 1


async def test_a_working_bus_is_ready(bus: Bus):
    async with (
        bus.consume(WorkQueue.GENERATE, Recorder(), concurrency=1),
        bus.subscribe(frozenset({"image.deleted"}), print),
    ):
        await bus.publish(image_event(1))
        await read_events(bus, Since(EPOCH), 1)

        assert bus.unready_reason == ""
