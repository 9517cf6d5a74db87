"""The event log and its subscriptions."""

import asyncio

import pytest

from common.bus.port import After, Bus, Since
from common.domain.errors import CursorGone
from tests.contract.bus.support import EPOCH, System, image_event, now, purge_event, read_events, until


async def test_every_reader_gets_every_event_in_order(system: System):
    buses = [await system.process() for _ in range(2)]
    events = [image_event(number) for number in range(20)]
    for each in events[:10]:
        await buses[0].publish(each)
    readers = [asyncio.create_task(read_events(bus, Since(EPOCH), 20)) for bus in buses for _ in range(2)]
    for each in events[10:]:
        await buses[0].publish(each)

    for found in await asyncio.gather(*readers):
        assert [logged.event.id for logged in found] == [each.id for each in events]


async def test_events_that_are_published_together_keep_their_order(bus: Bus):
    events = [image_event(number) for number in range(30)]
    assert await bus.publish_several(events[:29]) == [None] * 29
    assert await bus.publish_several([]) == []
    await bus.publish(events[29])

    found = await read_events(bus, Since(EPOCH), 30)
    assert [logged.event.id for logged in found] == [each.id for each in events]


async def test_a_cursor_resumes_after_its_event_on_any_process(system: System):
    first, second = await system.process(), await system.process()
    events = [image_event(number) for number in range(6)]
    for each in events:
        await first.publish(each)
    received = await read_events(first, Since(EPOCH), 6)

    for place in range(5):
        found = await read_events(second, After(received[place].cursor), 5 - place)
        assert found == received[place + 1 :]


async def test_a_reader_waits_at_the_end_for_more(bus: Bus):
    await bus.publish(image_event(1))
    (last,) = await read_events(bus, Since(EPOCH), 1)
    reader = asyncio.create_task(read_events(bus, After(last.cursor), 1))
    later = image_event(2)

    await bus.publish(later)

    (found,) = await reader
    assert found.event.id == later.id


async def test_a_reader_of_an_empty_log_waits(bus: Bus):
    reader = asyncio.create_task(read_events(bus, Since(now()), 1))
    first = image_event(1)
    await bus.publish(first)

    (found,) = await reader
    assert found.event.id == first.id


@pytest.mark.long_unless("memory", "rabbitmq-0.someone")
@pytest.mark.parametrize("cursor", ["", "x", "0", "0.someone-else", "-1.x", "²5.x", "9" * 30 + ".x", "1.2.3", "0."])
async def test_a_cursor_without_an_event_raises_cursor_gone(bus: Bus, cursor: str):
    await bus.publish(image_event(1))
    await bus.publish(image_event(2))

    with pytest.raises(CursorGone):
        await read_events(bus, After(cursor), 1)


async def test_a_subscriber_receives_its_types_from_now_on(system: System):
    publisher, subscriber = await system.process(), await system.process()
    await publisher.publish(image_event(1))
    received: list = []
    wanted = [image_event(2), image_event(3)]

    async with subscriber.subscribe(frozenset({"image.deleted"}), received.append):
        await publisher.publish(purge_event())
        for each in wanted:
            await publisher.publish(each)
        await until(lambda: len(received) >= 2)
    await publisher.publish(image_event(4))
    await read_events(publisher, Since(EPOCH), 5)

    assert [each.id for each in received] == [each.id for each in wanted]


async def test_a_subscriber_that_raises_receives_the_next_event(bus: Bus):
    received: list = []

    def on_event(each) -> None:
        received.append(each)
        if len(received) == 1:
            raise ValueError("broken")

    async with bus.subscribe(frozenset({"image.deleted"}), on_event):
        await bus.publish(image_event(1))
        await bus.publish(image_event(2))
        await until(lambda: len(received) == 2)
