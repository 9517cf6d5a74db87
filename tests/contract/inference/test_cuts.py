"""A connection that is cut, or falls silent, at each request of a painting."""

import asyncio
import contextlib

import pytest

from common.domain.errors import Transient, Unreachable
from tests.contract.inference.cutting_proxy import Cut
from tests.contract.inference.dialect import bench_of, ignore
from tests.contract.inference.dialects import DIALECTS, others_are_long

MOST_REQUESTS = 40


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("name", DIALECTS)
@others_are_long
async def test_a_cut_at_each_stage_costs_at_most_an_attempt(name, cut):
    """Each request in turn is cut, until a painting has fewer requests: then none was cut."""
    async with bench_of(DIALECTS[name]) as bench:
        cuts = new_ids = 0
        for number in range(1, MOST_REQUESTS):
            job = bench.job(seed=number)
            bench.proxy.cut_at(number, cut)
            backend = await bench.connect()
            try:
                result = await backend.generate(job, ignore)
            except (Transient, Unreachable) as error:
                new_ids += error.needs_new_id
                bench.proxy.heal()
                result = await backend.generate(job, ignore)
            assert result.content
            if not bench.proxy.has_cut:
                break
            cuts += 1
        painted = bench.engine.painted

        assert not bench.proxy.has_cut
        assert (cuts >= 2, new_ids) == (True, 0)
        if "adoption" not in bench.dialect.lacks:
            assert painted == list(range(1, cuts + 2))


@pytest.mark.parametrize("name", DIALECTS)
@others_are_long
async def test_silence_at_each_stage_ends_within_the_timeout(name):
    """A firewall that drops packets: each request of a painting in turn is the first without an answer."""

    async def silenced_at(number: int) -> int:
        async with bench_of(DIALECTS[name], INFERENCE_TIMEOUT="0.5") as bench:
            bench.proxy.silence_from(number)
            with contextlib.suppress(Transient):
                await bench.paint()
            return bench.proxy.requests

    requests = await silenced_at(MOST_REQUESTS)
    async with asyncio.timeout(10):
        await asyncio.gather(*(silenced_at(number) for number in range(1, requests + 1)))
