"""Behaviour of the bus in memory only."""

import asyncio

import pytest

from common.bus.memory import MemoryBus
from common.bus.port import After, Since
from common.domain.errors import CursorGone, Unavailable
from tests.contract.bus.support import EPOCH, generate_command, image_event, read_events


async def test_a_cursor_of_another_run_raises_cursor_gone_in_memory():
    async with MemoryBus() as earlier, MemoryBus() as later:
        for bus in (earlier, later):
            await bus.publish(image_event(1))
            await bus.publish(image_event(2))
        (first,) = await read_events(earlier, Since(EPOCH), 1)

        with pytest.raises(CursorGone):
            await read_events(later, After(first.cursor), 1)


async def test_a_trimmed_log_raises_cursor_gone_in_memory():
    async with MemoryBus(log_size=3) as bus:
        await bus.publish(image_event(0))
        reader = bus.read(Since(EPOCH))
        first = await anext(reader)
        for number in range(4):
            await bus.publish(image_event(number))

        with pytest.raises(CursorGone):
            await anext(reader)
        with pytest.raises(CursorGone):
            await read_events(bus, After(first.cursor), 1)


async def test_a_closed_bus_is_unavailable_in_memory():
    async with MemoryBus() as bus:
        reader = asyncio.create_task(read_events(bus, Since(EPOCH), 1))
        await bus.arm("timer.purge", interval_s=60)
        await asyncio.sleep(0)  # the reader waits
    with pytest.raises(Unavailable):
        await reader
    with pytest.raises(Unavailable):
        await bus.send(generate_command())
    assert bus.unready_reason == "the bus is closed"
