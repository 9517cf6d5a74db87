"""Dead letters: what makes one, and what an operator may do with it."""

from datetime import timedelta

import pytest

from common.bus.port import Bus, DeadLetter, Reject, WorkQueue
from common.messages import encode
from tests.contract.bus.support import Recorder, System, cancel, has_letters, now, order, until


async def test_reject_makes_a_dead_letter_that_says_why(bus: Bus):
    sent = order()
    async with bus.consume(WorkQueue.GENERATE, Recorder(Reject("no such model")), concurrency=1):
        began = now() - timedelta(seconds=5)
        await bus.send(sent)
        await until(lambda: has_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert letter == DeadLetter(letter.id, encode(sent), "no such model", "image.generate", letter.died_at)
    assert letter.died_at is not None
    assert began < letter.died_at < now() + timedelta(seconds=5)


async def test_a_dead_letter_is_worked_as_well(bus: Bus):
    undertaker = Recorder()
    async with (
        bus.consume(WorkQueue.GENERATE, Recorder(Reject("no")), concurrency=1),
        bus.consume(WorkQueue.DEAD, undertaker, concurrency=1),
    ):
        await bus.send(order())
        await undertaker.saw(1)

    assert undertaker.seen == await bus.dead_letters(10)


async def test_looking_at_dead_letters_leaves_them_in_order(bus: Bus):
    reasons = [f"reason {number}" for number in range(5)]
    async with bus.consume(WorkQueue.GENERATE, Recorder(*map(Reject, reasons)), concurrency=1):
        for _ in reasons:
            await bus.send(order())
        await until(lambda: has_letters(bus, 5))

    assert [letter.reason for letter in await bus.dead_letters(3)] == reasons[:3]
    assert [letter.reason for letter in await bus.dead_letters(10)] == reasons


async def test_redrive_puts_it_back_into_its_queue(bus: Bus):
    worker = Recorder(Reject("not now"))
    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(order())
        await until(lambda: has_letters(bus))
        (letter,) = await bus.dead_letters(10)

        assert await bus.redrive(letter.id)
        await worker.saw(2)

    assert worker.seen[0] == worker.seen[1]
    assert await bus.dead_letters(10) == []
    assert not await bus.redrive(letter.id)


async def test_drop_forgets_one(bus: Bus):
    async with bus.consume(WorkQueue.GENERATE, Recorder(Reject("a"), Reject("b"), Reject("c")), concurrency=1):
        for _ in range(3):
            await bus.send(order())
        await until(lambda: has_letters(bus, 3))
    _, second, _ = await bus.dead_letters(10)

    assert await bus.drop(second.id)
    assert not await bus.drop(second.id)
    assert [letter.reason for letter in await bus.dead_letters(10)] == ["a", "c"]


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 60_000, b'{"type": "image.generate"}', b"null"]
)
async def test_what_does_not_parse_is_a_dead_letter_and_harms_nothing_else(system: System, bus: Bus, body: bytes):
    worker = Recorder()
    good = order()

    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1):
        await system.inject(WorkQueue.GENERATE, body)
        await bus.send(good)
        await worker.saw(1)
        await until(lambda: has_letters(bus))

    assert worker.ids == [good.id]
    assert [letter.body for letter in await bus.dead_letters(10)] == [body]


async def test_a_message_of_another_queue_is_a_dead_letter(system: System, bus: Bus):
    worker = Recorder()
    async with bus.consume(WorkQueue.GENERATE, worker, concurrency=1):
        await system.inject(WorkQueue.GENERATE, encode(cancel("image-1")))
        await until(lambda: has_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert worker.seen == []
    assert letter.reason == "a message of type image.cancel is nothing for image.generate"
