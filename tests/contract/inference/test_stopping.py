"""The contract of `stop`; also of cancelled calls, whose work others take over."""

import asyncio
from contextlib import suppress

import pytest

from common.domain.errors import Transient
from tests.contract.inference.dialect import ignore
from tests.contract.inference.dialects import others_are_long
from tests.waiting import until

SOON_S = 3.0  # a second, and time for a busy machine


async def cancelled(call: asyncio.Task) -> None:
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()


@pytest.mark.needs("cancel")
@others_are_long
async def test_stop_ends_the_work_within_a_second(bench):
    job = bench.job(seed=11)
    async with bench.painting(job) as call:
        async with asyncio.timeout(SOON_S):
            await cancelled(call)
            await bench.backend.stop(job)
        await until(lambda: bench.engine.stopped == [11], limit_s=SOON_S)

    assert bench.engine.painted == []


@pytest.mark.needs("cancel")
@others_are_long
async def test_the_server_paints_the_next_job_after_a_stop(bench):
    job = bench.job(seed=11)
    async with bench.painting(job) as call:
        await cancelled(call)
        await bench.backend.stop(job)
        await until(lambda: bench.engine.stopped == [11], limit_s=2)
    bench.engine.release()

    await bench.paint(bench.job(seed=12))

    assert bench.engine.painted == [12]


def is_sent_or_waits(bench) -> bool:
    """A back end that waits for an idle server asks for its state again and again."""
    proxy = bench.proxy
    return proxy.requests_of("POST") + proxy.requests_of("PUT") >= 2 or (
        bench.engine.waits_for_an_idle_server and proxy.requests_of("GET") > 20
    )


async def test_stop_of_waiting_work_does_not_end_what_runs(bench):
    """Ours waits behind the work of another generator; the server may also paint both at once."""
    theirs, ours = bench.job(seed=21), bench.job(seed=22)
    other = await bench.connect()
    async with bench.painting(theirs, other) as call:
        waiting = asyncio.create_task(bench.backend.generate(ours, ignore))
        await until(lambda: is_sent_or_waits(bench), limit_s=5)
        await cancelled(waiting)
        await bench.backend.stop(ours)
        bench.engine.release()

        assert (await asyncio.wait_for(call, 5)).content

    assert 21 in bench.engine.painted


async def test_stop_of_finished_work_does_not_end_what_runs(bench):
    ended, theirs = bench.job(seed=31), bench.job(seed=32)
    await bench.paint(ended)
    async with bench.painting(theirs, await bench.connect()) as call:
        await bench.backend.stop(ended)
        bench.engine.release()

        assert (await asyncio.wait_for(call, 5)).content

    assert bench.engine.painted == [31, 32]


async def test_stop_of_unknown_work_does_not_end_what_runs(bench):
    async with bench.painting(bench.job(seed=41), await bench.connect()) as call:
        await bench.backend.stop(bench.job(seed=42))
        bench.engine.release()

        assert (await asyncio.wait_for(call, 5)).content

    assert bench.engine.painted == [41]


async def test_stop_without_a_server_raises_nothing(bench):
    await bench.proxy.refuse()

    await bench.backend.stop(bench.job())


@pytest.mark.needs("survival")
@others_are_long
async def test_a_cancelled_call_leaves_the_work_to_others(bench):
    """After a lost lease, the work may be another worker's."""
    job = bench.job(seed=51)
    async with bench.painting(job, await bench.connect()) as call:
        await cancelled(call)
        with suppress(TimeoutError):  # a server that ends the work with the connection needs a moment to see its end
            await until(lambda: bench.engine.stopped, limit_s=1)
        bench.engine.release()
        await until(lambda: bench.engine.painted == [51], limit_s=2)

    assert bench.engine.stopped == []


@pytest.mark.needs("adoption")
async def test_work_in_progress_is_taken_over(bench):
    job = bench.job(seed=61)
    steps: list[tuple[int, int]] = []
    async with bench.painting(job, await bench.connect()) as first:
        await cancelled(first)
        second = asyncio.create_task(bench.backend.generate(job, lambda *step: steps.append(step)))
        await until(lambda: bench.proxy.requests_of("GET") > 2, limit_s=2)
        bench.engine.release()
        result = await asyncio.wait_for(second, 10)

    assert result.content
    assert (bench.engine.begun, bench.engine.painted) == (1, [61])


@pytest.mark.needs("finished")
async def test_a_finished_result_is_taken_over(bench):
    """A worker was killed with the picture in its hands."""
    job = bench.job(seed=71)
    first = await bench.paint(job)

    again = await (await bench.connect()).generate(job, ignore)

    assert again.content == first.content
    assert bench.engine.painted == [71]


@pytest.mark.needs("cancel")
@others_are_long
async def test_a_timeout_ends_the_work(bench):
    impatient = await bench.connect(INFERENCE_TIMEOUT="0.5")
    bench.engine.hold()

    with pytest.raises(Transient):
        await impatient.generate(bench.job(seed=81), ignore)

    await until(lambda: bench.engine.stopped == [81], limit_s=SOON_S)
