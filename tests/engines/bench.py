"""A back end that is connected to a fake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from common.domain.images import Parameters
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference
from services.generator.inference.job import Job
from services.generator.inference.port import GeneratedImage, InferenceBackend
from tests.engines.engine import EngineFake, running
from tests.making import a_job

MAX_BYTES = 100_000


def ignore(_step: int, _steps: int) -> None:
    """For tests without progress."""


def job_with(**fields) -> Job:
    """A job; names of parameters are taken as well."""
    defaults = {"steps": 4, "cfg_scale": 7.5, "sampler": "Euler", "seed": 7, "hires_fix": False}
    parameters = Parameters(**{name: fields.pop(name, value) for name, value in defaults.items()})
    return a_job(parameters=parameters, **fields)


@asynccontextmanager
async def connected(
    engine: EngineFake, scheme: str, *, path: str = "", **settings: str
) -> AsyncIterator[InferenceBackend]:
    """The back end of this dialect, connected to the running fake."""
    given = {"INFERENCE_TIMEOUT": "5", "MAX_IMAGE_FILE_SIZE": str(MAX_BYTES), **settings}
    async with running(engine), aiohttp.ClientSession() as http:
        url = f"{scheme}+{engine.url}{path}"
        yield connect_inference(url, http=http, settings=read_settings(given), clock=SystemClock())


async def cancelled_while_painting(backend: InferenceBackend, engine: EngineFake, job: Job) -> None:
    """Cancel the call while the fake stands at a step, as the generator does when it no longer holds the image."""
    engine.hold()
    call = asyncio.create_task(backend.generate(job, ignore))
    await engine.held.wait()
    call.cancel()
    await asyncio.wait([call])


async def painted(backend: InferenceBackend, **fields) -> GeneratedImage:
    return await backend.generate(job_with(**fields), ignore)
