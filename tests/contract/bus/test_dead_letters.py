"""Dead letters: how a message becomes one; the operations on it."""

from datetime import timedelta

import pytest

from common.bus.port import Bus, DeadLetter, Reject, WorkQueue
from common.messages import encode
from tests.contract.bus.support import Recorder, System, cancel_command, generate_command, has_dead_letters, now, until


async def test_reject_makes_a_dead_letter_with_the_reason(bus: Bus):
    sent = generate_command()
    async with bus.consume(WorkQueue.GENERATE, Recorder(Reject("no such model")), concurrency=1):
        began = now() - timedelta(seconds=5)
        await bus.send(sent)
        await until(lambda: has_dead_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert letter == DeadLetter(letter.id, encode(sent), "no such model", WorkQueue.GENERATE, letter.died_at)
    assert letter.died_at is not None
    assert began < letter.died_at < now() + timedelta(seconds=5)


@pytest.mark.border(rule="A5")
@pytest.mark.parametrize(
    "reason",
    ["a lone surrogate \ud800", "\x1b[2J\r\nforged", "x" * 100_000, ""],
    ids=["surrogate", "control", "long", "empty"],
)
@pytest.mark.long_unless("memory", "rabbitmq-long")
async def test_a_reason_is_one_printable_line(bus: Bus, reason: str):
    """Reasons quote what other services wrote."""
    async with bus.consume(WorkQueue.GENERATE, Recorder(Reject(reason)), concurrency=1):
        await bus.send(generate_command())
        await until(lambda: has_dead_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert letter.reason.isprintable()
    assert len(letter.reason) == min(len(reason), 1000)


async def test_a_dead_letter_is_delivered_to_the_dead_queue(bus: Bus):
    dead_letter_handler = Recorder()
    async with (
        bus.consume(WorkQueue.GENERATE, Recorder(Reject("no")), concurrency=1),
        bus.consume(WorkQueue.DEAD, dead_letter_handler, concurrency=1),
    ):
        await bus.send(generate_command())
        await dead_letter_handler.wait_for(1)

    assert dead_letter_handler.received == await bus.dead_letters(10)


async def test_listing_dead_letters_keeps_their_order(bus: Bus):
    reasons = [f"reason {number}" for number in range(5)]
    async with bus.consume(WorkQueue.GENERATE, Recorder(*map(Reject, reasons)), concurrency=1):
        for _ in reasons:
            await bus.send(generate_command())
        await until(lambda: has_dead_letters(bus, 5))

    assert [letter.reason for letter in await bus.dead_letters(3)] == reasons[:3]
    assert [letter.reason for letter in await bus.dead_letters(10)] == reasons


async def test_redrive_returns_a_dead_letter_to_its_queue(bus: Bus):
    handler = Recorder(Reject("not now"))
    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(generate_command())
        await until(lambda: has_dead_letters(bus))
        (letter,) = await bus.dead_letters(10)

        assert await bus.redrive(letter.id)
        await handler.wait_for(2)

    assert handler.received[0] == handler.received[1]
    assert await bus.dead_letters(10) == []
    assert not await bus.redrive(letter.id)


async def test_drop_deletes_one_dead_letter(bus: Bus):
    async with bus.consume(WorkQueue.GENERATE, Recorder(Reject("a"), Reject("b"), Reject("c")), concurrency=1):
        for _ in range(3):
            await bus.send(generate_command())
        await until(lambda: has_dead_letters(bus, 3))
    _, second, _ = await bus.dead_letters(10)

    assert await bus.drop(second.id)
    assert not await bus.drop(second.id)
    assert [letter.reason for letter in await bus.dead_letters(10)] == ["a", "c"]


@pytest.mark.long_unless("memory", "rabbitmq-{")
@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 60_000, b'{"type": "image.generate"}', b"null"]
)
async def test_a_body_that_does_not_parse_becomes_a_dead_letter(system: System, bus: Bus, body: bytes):
    handler = Recorder()
    good = generate_command()

    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await system.inject(WorkQueue.GENERATE, body)
        await bus.send(good)
        await handler.wait_for(1)
        await until(lambda: has_dead_letters(bus))

    assert handler.ids == [good.id]
    assert [letter.body for letter in await bus.dead_letters(10)] == [body]


async def test_a_message_of_another_queue_is_a_dead_letter(system: System, bus: Bus):
    handler = Recorder()
    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1):
        await system.inject(WorkQueue.GENERATE, encode(cancel_command("image-1")))
        await until(lambda: has_dead_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert handler.received == []
    assert letter.reason == "a message of type image.cancel does not belong to image.work.default"


async def test_dead_letters_are_counted(bus: Bus):
    assert await bus.count_dead_letters() == 0
    async with bus.consume(WorkQueue.GENERATE, Recorder(Reject("one"), Reject("two")), concurrency=1):
        for _ in range(2):
            await bus.send(generate_command())
        await until(lambda: has_dead_letters(bus, 2))

    async def both_are_back() -> bool:  # a listing holds them for a moment
        return await bus.count_dead_letters() == 2

    await until(both_are_back)
