"""The client of cog containers against a real cog server."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from common.application.capabilities import Feature
from common.domain.errors import Rejected, Transient
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference
from services.generator.inference.port import InferenceBackend
from tests.engines.bench import ignore, job_with, painted


@pytest.fixture
async def backend(cog_of_the_run) -> AsyncIterator[InferenceBackend]:
    async with aiohttp.ClientSession() as http:
        url = f"cog+{cog_of_the_run.url}?model=stand-in"
        yield connect_inference(url, http=http, settings=read_settings({}), clock=SystemClock())


async def test_it_describes_its_model(backend):
    found = await backend.capabilities()

    assert [model.id for model in found.models] == ["stand-in"]
    assert found.samplers == ("Euler", "Euler a", "DDIM")
    assert {Feature.PROGRESS, Feature.CANCEL, Feature.NEGATIVE_PROMPT} <= set(found.features or ())


async def test_its_progress_is_read(backend):
    steps: list[tuple[int, int]] = []
    await backend.generate(job_with(model="stand-in", steps=6), lambda *at: steps.append(at))

    assert steps[-1] == (6, 6)


async def test_a_limit_of_the_model_is_refused(backend):
    with pytest.raises(Rejected, match=r"^cfg_scale:"):
        await painted(backend, model="stand-in", cfg_scale=25.0)


async def test_a_failure_has_its_reason(backend, cog_of_the_run):
    (cog_of_the_run.control / "fault").write_text("error_inside")
    with pytest.raises(Transient, match="NSFW"):
        await painted(backend, model="stand-in")


async def test_a_cancelled_call_frees_the_server(backend):
    """The server has one slot: the next job is accepted at once."""
    began = asyncio.Event()
    job = job_with(model="stand-in", prompt="slow", steps=100)
    call = asyncio.create_task(backend.generate(job, lambda *_: began.set()))
    await began.wait()
    call.cancel()
    await asyncio.wait([call])
    await backend.stop(job)

    async with asyncio.timeout(1):
        await backend.generate(job_with(model="stand-in"), ignore)


async def test_it_may_be_killed_while_it_paints(backend, cog_of_the_run):
    began = asyncio.Event()
    job = job_with(model="stand-in", prompt="slow", steps=100)
    call = asyncio.create_task(backend.generate(job, lambda *_: began.set()))
    await began.wait()
    await asyncio.to_thread(cog_of_the_run.kill)
    try:
        with pytest.raises(Transient):
            await call
    finally:
        await asyncio.to_thread(cog_of_the_run.start)

    await painted(backend, model="stand-in")
