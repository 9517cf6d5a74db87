"""One run in each interval, whatever comes twice or dies on the way."""

import asyncio

import pytest

from common.bus.port import WorkQueue
from common.messages import Tick
from services.janitor.timers import Timer
from tests.unit.janitor.support import cluster


@pytest.mark.fault(row=49)
@pytest.mark.fault(row=51)
async def test_a_second_token_in_one_interval_does_nothing(tmp_path):
    async with cluster(tmp_path) as context:
        runs = []

        async def job(tick, *, context):
            runs.append(tick)

        timer = Timer(queue=WorkQueue.PURGE, interval_s=60, job=job, context=context)

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
async def test_a_killed_run_is_resumed_by_its_redelivery(tmp_path):
    async with cluster(tmp_path) as context:
        runs = []

        async def job(_tick, *, context):
            runs.append("begun")
            if len(runs) == 1:
                raise asyncio.CancelledError

        timer = Timer(queue=WorkQueue.PURGE, interval_s=60, job=job, context=context)
        tick = Tick(id="run", source="timer", type="timer.purge", time=context.clock.now(), token=True)

        with pytest.raises(asyncio.CancelledError):
            await timer.handle(tick)
        await timer.handle(tick)
        await timer.handle(tick)

        assert len(runs) == 2
