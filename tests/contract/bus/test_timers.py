"""Timer tokens and the ticks of operators."""

import time
from datetime import timedelta

import pytest

from common.bus.port import Bus, Done, WorkQueue
from common.messages import Tick
from tests.contract.bus.support import Recorder, System, now


async def test_a_token_is_armed_once_and_again_after_it_fired(bus: Bus):
    handler = Recorder()
    async with bus.consume(WorkQueue.SWEEP, handler, concurrency=1):
        armed = [await bus.arm("timer.sweep", interval_s=0.3) for _ in range(3)]
        await handler.wait_for(1)
        armed.append(await bus.arm("timer.sweep", interval_s=0.3))
        await handler.wait_for(2)

    assert armed == [True, False, False, True]
    assert [tick.token for tick in handler.received] == [True, True]


async def test_each_timer_has_its_own_token(bus: Bus):
    assert await bus.arm("timer.sweep", interval_s=30)
    assert await bus.arm("timer.purge", interval_s=30)


@pytest.mark.fault(row=49)
@pytest.mark.long
async def test_several_janitors_tick_once_an_interval(system: System):
    interval_s = 0.4
    buses = [await system.process() for _ in range(3)]
    ticks = Recorder()

    def janitor(bus: Bus):
        async def tick(message) -> Done:
            await bus.arm("timer.reconcile", interval_s=interval_s)
            await ticks(message)
            return Done()

        return tick

    began = time.monotonic()
    async with (
        buses[0].consume(WorkQueue.RECONCILE, janitor(buses[0]), concurrency=1),
        buses[1].consume(WorkQueue.RECONCILE, janitor(buses[1]), concurrency=1),
        buses[2].consume(WorkQueue.RECONCILE, janitor(buses[2]), concurrency=1),
    ):
        for bus in buses:
            await bus.arm("timer.reconcile", interval_s=interval_s)
        await ticks.wait_for(4)
        took_s = time.monotonic() - began

    assert took_s > 4 * interval_s * 0.9
    assert len(set(ticks.ids)) == len(ticks.ids)


@pytest.mark.fault(row=17)
async def test_the_tick_of_a_token_has_the_time_it_fired(bus: Bus):
    handler = Recorder()
    async with bus.consume(WorkQueue.PURGE, handler, concurrency=1):
        armed_at = now()
        await bus.arm("timer.purge", interval_s=1.3)
        await handler.wait_for(1)

    # the time of a broker is in whole seconds
    assert armed_at + timedelta(seconds=0.3) <= handler.received[0].time <= now()


async def test_a_tick_of_an_operator_does_not_replace_the_token(bus: Bus):
    handler = Recorder()
    mine = Tick(id="tick-1", source="test", type="timer.purge", time=now())
    async with bus.consume(WorkQueue.PURGE, handler, concurrency=1):
        await bus.arm("timer.purge", interval_s=0.5)
        await bus.tick(mine)
        await handler.wait_for(2)

    assert [(tick.id == mine.id, tick.token) for tick in handler.received] == [(True, False), (False, True)]
