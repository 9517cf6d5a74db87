"""The event log: read from a cursor, or listened to."""

import asyncio

import pytest

from common.bus.port import After, Bus, Since
from common.domain.errors import CursorGone
from tests.contract.bus.support import EPOCH, System, event, now, report, some, until


async def test_every_reader_gets_every_event_in_order(system: System):
    buses = [await system.process() for _ in range(2)]
    events = [event(number) for number in range(20)]
    for each in events[:10]:
        await buses[0].publish(each)
    readers = [asyncio.create_task(some(bus, Since(EPOCH), 20)) for bus in buses for _ in range(2)]
    for each in events[10:]:
        await buses[0].publish(each)

    for found in await asyncio.gather(*readers):
        assert [logged.event.id for logged in found] == [each.id for each in events]


async def test_a_cursor_resumes_after_its_event_on_any_process(system: System):
    first, second = await system.process(), await system.process()
    events = [event(number) for number in range(6)]
    for each in events:
        await first.publish(each)
    seen = await some(first, Since(EPOCH), 6)

    for place in range(5):
        found = await some(second, After(seen[place].cursor), 5 - place)
        assert found == seen[place + 1 :]


async def test_a_reader_waits_at_the_end_for_more(bus: Bus):
    await bus.publish(event(1))
    (last,) = await some(bus, Since(EPOCH), 1)
    reading = asyncio.create_task(some(bus, After(last.cursor), 1))
    later = event(2)

    await bus.publish(later)

    (found,) = await reading
    assert found.event.id == later.id


async def test_a_reader_of_an_empty_log_waits(bus: Bus):
    reading = asyncio.create_task(some(bus, Since(now()), 1))
    first = event(1)
    await bus.publish(first)

    (found,) = await reading
    assert found.event.id == first.id


@pytest.mark.parametrize("cursor", ["", "x", "0", "0.someone-else", "-1.x", "²5.x", "9" * 30 + ".x", "1.2.3", "0."])
async def test_a_cursor_that_names_no_event_is_gone(bus: Bus, cursor: str):
    await bus.publish(event(1))
    await bus.publish(event(2))

    with pytest.raises(CursorGone):
        await some(bus, After(cursor), 1)


async def test_a_listener_hears_its_types_from_now_on(system: System):
    speaking, listening = await system.process(), await system.process()
    await speaking.publish(event(1))
    heard: list = []
    wanted = [event(2), event(3)]

    async with listening.subscribe(frozenset({"image.deleted"}), heard.append):
        await speaking.publish(report())
        for each in wanted:
            await speaking.publish(each)
        await until(lambda: len(heard) >= 2)
    await speaking.publish(event(4))
    await some(speaking, Since(EPOCH), 5)

    assert [each.id for each in heard] == [each.id for each in wanted]


async def test_a_listener_that_raises_hears_the_next(bus: Bus):
    heard: list = []

    def on_event(each) -> None:
        heard.append(each)
        if len(heard) == 1:
            raise ValueError("broken")

    async with bus.subscribe(frozenset({"image.deleted"}), on_event):
        await bus.publish(event(1))
        await bus.publish(event(2))
        await until(lambda: len(heard) == 2)
