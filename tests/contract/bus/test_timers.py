"""The tokens of the timers, and the ticks of operators beside them."""

import time
from datetime import timedelta

import pytest

from common.bus.port import Bus, Done, WorkQueue
from common.messages import Tick
from tests.contract.bus.support import Recorder, System, now


async def test_a_token_is_armed_once_and_again_after_it_fired(bus: Bus):
    worker = Recorder()
    async with bus.work(WorkQueue.SWEEP, worker, concurrency=1):
        armed = [await bus.arm("timer.sweep", interval_s=0.3) for _ in range(3)]
        await worker.saw(1)
        armed.append(await bus.arm("timer.sweep", interval_s=0.3))
        await worker.saw(2)

    assert armed == [True, False, False, True]
    assert [tick.token for tick in worker.seen] == [True, True]


async def test_timers_have_a_token_each(bus: Bus):
    assert await bus.arm("timer.sweep", interval_s=30)
    assert await bus.arm("timer.purge", interval_s=30)


@pytest.mark.fault(row=49)
async def test_several_janitors_tick_once_an_interval(system: System):
    interval_s = 0.4
    buses = [await system.process() for _ in range(3)]
    ticked = Recorder()

    def janitor(bus: Bus):
        async def tick(message) -> Done:
            await bus.arm("timer.reconcile", interval_s=interval_s)
            await ticked(message)
            return Done()

        return tick

    began = time.monotonic()
    async with (
        buses[0].work(WorkQueue.RECONCILE, janitor(buses[0]), concurrency=1),
        buses[1].work(WorkQueue.RECONCILE, janitor(buses[1]), concurrency=1),
        buses[2].work(WorkQueue.RECONCILE, janitor(buses[2]), concurrency=1),
    ):
        for bus in buses:
            await bus.arm("timer.reconcile", interval_s=interval_s)
        await ticked.saw(4)
        took_s = time.monotonic() - began

    assert took_s > 4 * interval_s * 0.9
    assert len(set(ticked.ids)) == len(ticked.ids)


@pytest.mark.fault(row=17)
async def test_a_tick_carries_the_time_when_its_token_fired(bus: Bus):
    worker = Recorder()
    async with bus.work(WorkQueue.PURGE, worker, concurrency=1):
        armed_at = now()
        await bus.arm("timer.purge", interval_s=1.3)
        await worker.saw(1)

    # a broker tells the second, and no more
    assert armed_at + timedelta(seconds=0.3) <= worker.seen[0].time <= now()


async def test_an_operators_tick_passes_beside_the_token(bus: Bus):
    worker = Recorder()
    mine = Tick(id="tick-1", source="test", type="timer.purge", time=now())
    async with bus.work(WorkQueue.PURGE, worker, concurrency=1):
        await bus.arm("timer.purge", interval_s=0.5)
        await bus.tick(mine)
        await worker.saw(2)

    assert [(tick.id == mine.id, tick.token) for tick in worker.seen] == [(True, False), (False, True)]
