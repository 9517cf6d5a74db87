"""What a worker has in hand: how much at once, and what becomes of it."""

import asyncio

from common.bus.port import Bus, Done, Reject, Since, WorkQueue
from tests.contract.bus.support import EPOCH, LIMIT_S, Recorder, System, cancel, event, has_letters, order, some, until


async def test_a_worker_handles_as_many_at_once_as_it_may(bus: Bus):
    worker = Recorder()
    worker.gate.clear()

    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=3) as consumer:
        await asyncio.gather(*(bus.send(order()) for _ in range(6)))
        await worker.saw(3)
        in_flight = consumer.in_flight
        worker.gate.set()
        await worker.saw(6)

    assert (in_flight, worker.most_at_once) == (3, 3)


async def test_done_forgets_the_message(bus: Bus):
    worker = Recorder(Done())
    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1) as consumer:
        await bus.send(order())
        await worker.saw(1)
        await until(lambda: consumer.in_flight == 0)

    later = Recorder()
    sent = order()
    async with bus.consume(WorkQueue.GENERATE, later, concurrency=1):
        await bus.send(sent)
        await later.saw(1)

    assert later.ids == [sent.id]
    assert await bus.dead_letters(10) == []


async def test_one_subject_in_hand_shares_the_outcome(bus: Bus):
    worker = Recorder()
    worker.gate.clear()
    marker = order("image-2")

    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=2) as consumer:
        await bus.send(order("image-1"))
        await worker.saw(1)
        await bus.send(order("image-1"))
        await bus.send(marker)  # comes after the second: when it is there, the second has been seen
        await worker.saw(2)
        worker.gate.set()
        assert await consumer.drain(LIMIT_S)

    assert [message.subject for message in worker.seen] == ["image-1", "image-2"]
    assert await bus.waiting(WorkQueue.GENERATE) == 0


async def test_different_queues_may_hold_one_subject_at_once(bus: Bus):
    generating, cancelling = Recorder(), Recorder()
    generating.gate.clear()

    async with (
        bus.consume(WorkQueue.GENERATE, generating, concurrency=1),
        bus.consume(WorkQueue.CANCEL, cancelling, concurrency=1),
    ):
        await bus.send(order("image-1"))
        await generating.saw(1)
        await bus.send(cancel("image-1"))
        await cancelling.saw(1)

    assert cancelling.seen[0].subject == "image-1"


async def test_leaving_gives_what_is_in_hand_to_another(system: System):
    leaving, staying = await system.process(), await system.process()
    first, second = Recorder(), Recorder()
    first.gate.clear()
    orders = [order(), order()]

    async with leaving.consume(WorkQueue.GENERATE, first, concurrency=2):
        for each in orders:
            await leaving.send(each)
        await first.saw(2)
    async with staying.consume(WorkQueue.GENERATE, second, concurrency=1):
        await second.saw(2)

    assert first.running == 0
    assert second.ids == [each.id for each in orders]


async def test_pause_leaves_new_work_to_others_and_resume_takes_again(system: System):
    pausing, other = await system.process(), await system.process()
    first, second = Recorder(), Recorder()

    async with pausing.consume(WorkQueue.GENERATE, first, concurrency=1) as consumer:
        await consumer.pause()
        await pausing.send(order("image-1"))
        async with other.consume(WorkQueue.GENERATE, second, concurrency=1) as other_taking:
            await second.saw(1)
            await other_taking.drain(LIMIT_S)
        await consumer.resume()
        await pausing.send(order("image-2"))
        await first.saw(1)

    assert [message.subject for message in second.seen] == ["image-1"]
    assert [message.subject for message in first.seen] == ["image-2"]


async def test_pause_lets_what_is_in_hand_go_on(bus: Bus):
    worker = Recorder(Reject("handled"))
    worker.gate.clear()

    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1) as consumer:
        await bus.send(order())
        await worker.saw(1)
        await consumer.pause()
        worker.gate.set()
        await until(lambda: has_letters(bus))

    assert [letter.reason for letter in await bus.dead_letters(10)] == ["handled"]


async def test_drain_waits_for_what_is_in_hand_and_takes_nothing_new(bus: Bus):
    worker = Recorder()
    worker.gate.clear()
    first, second = order(), order()

    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1) as consumer:
        await bus.send(first)
        await worker.saw(1)
        in_time = await consumer.drain(0.01)
        await bus.send(second)
        worker.gate.set()
        drained = await consumer.drain(LIMIT_S)

    assert (in_time, drained) == (False, True)
    assert worker.ids == [first.id]
    assert await bus.waiting(WorkQueue.GENERATE) == 1


async def test_a_bus_at_work_has_no_trouble(bus: Bus):
    async with (
        bus.consume(WorkQueue.GENERATE, Recorder(), concurrency=1),
        bus.subscribe(frozenset({"image.deleted"}), print),
    ):
        await bus.publish(event(1))
        await some(bus, Since(EPOCH), 1)

        assert bus.unready_reason == ""
