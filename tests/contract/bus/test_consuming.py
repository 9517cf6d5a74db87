"""Consumers: concurrency, pause, drain, messages in flight."""

import asyncio
from datetime import timedelta

import pytest

from common.bus.handling import MAX_BODY
from common.bus.port import Bus, Done, Reject, Since, WorkQueue
from common.messages import encode
from tests.contract.bus.support import (
    EPOCH,
    LIMIT_S,
    Recorder,
    System,
    cancel_command,
    generate_command,
    has_dead_letters,
    image_event,
    is_waiting,
    now,
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


@pytest.mark.border(rule="B2")
async def test_another_message_for_an_image_is_handled_after_it(bus: Bus):
    """A command that is sent while its handler runs is a retry that the handler itself has decided on."""
    handler = Recorder()
    handler.gate.clear()
    sent = generate_command("image-1")
    first, second, third = (sent.model_copy(update={"time": now() + timedelta(seconds=number)}) for number in range(3))

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=3):
        await bus.send(first)
        await handler.wait_for(1)
        await bus.send(second)
        await bus.send(third)
        await bus.send(generate_command("image-2"))  # when it is handled, those before it were delivered
        await handler.wait_for(2)
        handler.gate.set()
        await handler.wait_for(3)
        await until(lambda: is_waiting(bus, 0))

    assert handler.ids == ["image-1", "image-2", "image-1"]
    assert encode(handler.received[2]) == encode(second)  # it stands for the third, which came before it was handled
    assert handler.max_running == 2


@pytest.mark.border(rule="B2")
async def test_a_handler_that_sends_its_command_again_gets_it_again(bus: Bus):
    attempts = Recorder()
    first = generate_command("image-1")

    async def handler(message) -> Done:
        await attempts(message)
        if len(attempts.received) == 1:
            await bus.send(first.model_copy(update={"time": now() + timedelta(seconds=1)}))
            await bus.send(generate_command("marker"))
            await attempts.wait_for(2)  # the marker is handled, so the command before it was delivered
        return Done()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=3):
        await bus.send(first)
        await attempts.wait_for(3)

    assert attempts.ids == ["image-1", "marker", "image-1"]


@pytest.mark.border(rule="A1")
async def test_orders_about_one_subject_are_handled_apart(bus: Bus):
    """For another service, `subject` may be what its orders are for; the image is the one of `id`."""
    handler = Recorder()
    orders = [generate_command().model_copy(update={"subject": "newsletter"}) for _ in range(5)]

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=2):
        for order in orders:
            await bus.send(order)
        await handler.wait_for(5)

    assert handler.ids == [order.id for order in orders]


@pytest.mark.border(rule="A5")
async def test_a_body_above_the_limit_is_a_dead_letter(system: System, bus: Bus):
    handler, good, huge = Recorder(), generate_command(), b" " * (MAX_BODY + 1)
    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await system.inject(WorkQueue.GENERATE, huge)
        await bus.send(good)
        await handler.wait_for(1)
        await until(lambda: has_dead_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert letter.reason == f"the body has {MAX_BODY + 1} bytes, but at most {MAX_BODY} are allowed"
    assert handler.ids == [good.id]


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


async def test_a_new_limit_counts_from_now_on(bus: Bus):
    """Three handlers run after it is raised, one after it is lowered; no message is lost or handled twice."""
    handler = Recorder()
    handler.gate.clear()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1) as consumer:
        await asyncio.gather(*(bus.send(generate_command()) for _ in range(8)))
        await handler.wait_for(1)
        await consumer.limit(3)
        await handler.wait_for(3)
        raised = consumer.in_flight
        await consumer.limit(1)
        handler.max_running = 0
        handler.gate.set()
        await handler.wait_for(8)
        await consumer.drain(LIMIT_S)

    assert (raised, handler.max_running) == (3, 1)
    assert len(set(handler.ids)) == len(handler.ids) == 8


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
