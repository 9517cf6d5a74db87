"""What holds for the bus in memory only."""

import asyncio

import pytest

from common.bus.memory import MemoryBus
from common.bus.port import After, Since
from common.domain.errors import CursorGone, Unavailable
from tests.contract.bus.support import EPOCH, event, order, some


async def test_a_cursor_of_another_run_is_gone_in_memory():
    async with MemoryBus() as earlier, MemoryBus() as later:
        for bus in (earlier, later):
            await bus.publish(event(1))
            await bus.publish(event(2))
        (first,) = await some(earlier, Since(EPOCH), 1)

        with pytest.raises(CursorGone):
            await some(later, After(first.cursor), 1)


async def test_a_trimmed_log_and_a_reader_left_behind_are_told_so_in_memory():
    async with MemoryBus(log_size=3) as bus:
        await bus.publish(event(0))
        reading = bus.read(Since(EPOCH))
        first = await anext(reading)
        for number in range(4):
            await bus.publish(event(number))

        with pytest.raises(CursorGone):
            await anext(reading)
        with pytest.raises(CursorGone):
            await some(bus, After(first.cursor), 1)


async def test_a_closed_bus_takes_nothing_and_ends_its_readers_in_memory():
    async with MemoryBus() as bus:
        reading = asyncio.create_task(some(bus, Since(EPOCH), 1))
        await bus.arm("timer.purge", interval_s=60)
        await asyncio.sleep(0)  # the reader waits
    with pytest.raises(Unavailable):
        await reading
    with pytest.raises(Unavailable):
        await bus.send(order())
    assert bus.unready_reason == "the bus is closed"
