"""One run in each interval, also after repeated ticks and crashes."""

import asyncio

import pytest

from common.bus.port import WorkQueue
from common.messages import Tick
from services.janitor.timers import JanitorTimer
from tests.unit.janitor.support import cluster


@pytest.mark.fault(row=49)
@pytest.mark.fault(row=51)
async def test_a_second_token_is_skipped(tmp_path):
    async with cluster(tmp_path) as context:
        runs = []

        async def job(tick, *, context):
            runs.append(tick)

        timer = JanitorTimer(queue=WorkQueue.PURGE, interval_s=60, job=job, context=context)

        def token(name, *, is_token=True):
            return Tick(id=name, source="timer", type="timer.purge", time=context.clock.now(), token=is_token)

        await timer.handle(token("first"))
        await timer.handle(token("first"))
        await timer.handle(token("second"))
        assert len(runs) == 1
        await timer.handle(token("by hand", is_token=False))
        assert len(runs) == 2
        context.clock.advance(55)
        await timer.handle(token("third"))
        assert len(runs) == 3


@pytest.mark.fault(row=50)
async def test_a_redelivery_resumes_a_killed_run(tmp_path):
    async with cluster(tmp_path) as context:
        runs = []

        async def job(_tick, *, context):
            runs.append("begun")
            if len(runs) == 1:
                raise asyncio.CancelledError

        timer = JanitorTimer(queue=WorkQueue.PURGE, interval_s=60, job=job, context=context)
        tick = Tick(id="run", source="timer", type="timer.purge", time=context.clock.now(), token=True)

        with pytest.raises(asyncio.CancelledError):
            await timer.handle(tick)
        await timer.handle(tick)
        await timer.handle(tick)

        assert len(runs) == 2
