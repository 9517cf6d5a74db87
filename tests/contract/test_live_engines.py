"""Real programs: the cog server of this run with those that `make test-engines` names.

The environment variable `TEST_ENGINES` holds their URLs, with the scheme of INFERENCE_SERVICE_URL. Nobody else may use
them.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import urlsplit

import aiohttp
import pytest
from PIL import Image

from common.application.capabilities import Capabilities, Feature
from common.domain.errors import InferenceError, Rejected, Transient
from common.domain.requests import GenerationRequest
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference
from services.generator.inference.job import Job
from services.generator.inference.port import InferenceBackend
from tests.conftest import missing
from tests.engines.bench import ignore, job_with
from tests.servers import cog as cog_servers

URLS = os.environ.get("TEST_ENGINES", "").split()
MODEL = os.environ.get("TEST_ENGINE_MODEL")
SIDE = int(os.environ.get("TEST_ENGINE_SIDE", "256"))
BEGIN_S = 3.0
SOON_S = 2.0  # a step of a large model takes a second
DEFAULT = GenerationRequest(prompt="x")


@dataclass
class LiveEngine:
    backend: InferenceBackend
    offered: Capabilities

    def job(self, **fields) -> Job:
        """A job that the program accepts; where it has no sampler of that name, its first one."""
        models = [model.id for model in self.offered.models]
        samplers = self.offered.samplers or (DEFAULT.sampler,)
        wanted = {
            "model": MODEL or (models[0] if models else DEFAULT.model),
            "sampler": DEFAULT.sampler if DEFAULT.sampler in samplers else samplers[0],
            "width": SIDE,
            "height": SIDE,
            "steps": DEFAULT.steps if self.offered.dialect == "openai" else 4,
            "prompt": "a lighthouse at dusk",
        }
        return job_with(**{**wanted, **fields})

    def has(self, feature: Feature) -> bool:
        return feature in (self.offered.features or ())


@pytest.fixture(params=["cog", *URLS], ids=lambda url: urlsplit(url).netloc.rpartition("@")[2] or url)
async def engine(request) -> AsyncIterator[LiveEngine]:
    url = request.param
    if url == "cog":
        if cog_servers.version() is None:
            missing("no cog: run make servers")
        server = cog_servers.server_of_the_run()
        server.reset()
        url = f"cog+{server.url}?model=stand-in"
    async with aiohttp.ClientSession() as http:
        settings = read_settings({**os.environ, "STORE_URL": "sqlite:///unused.db"} if url in URLS else {})
        backend = connect_inference(url, http=http, settings=settings, clock=SystemClock())
        yield LiveEngine(backend, await backend.capabilities(fresh=True))


async def test_it_describes_itself(engine):
    offered = engine.offered

    assert offered.engine
    assert offered.dialect
    assert offered.features is not None


@pytest.mark.parametrize("more", [0, 64])
async def test_the_picture_has_exactly_the_size(engine, more):
    generated = await engine.backend.generate(engine.job(width=SIDE + more), ignore)

    with Image.open(BytesIO(generated.content)) as picture:
        assert picture.size == (SIDE + more, SIDE)


async def test_a_seed_makes_the_same_picture(engine):
    if engine.offered.notice and "seed" in engine.offered.notice:
        pytest.skip(engine.offered.notice)
    pictures = [(await engine.backend.generate(engine.job(seed=seed), ignore)).content for seed in (1, 2, 1)]

    assert pixels(pictures[0]) == pixels(pictures[2]) != pixels(pictures[1])


def pixels(content: bytes) -> bytes:
    """Without the metadata, which may hold the time."""
    with Image.open(BytesIO(content)) as picture:
        return picture.tobytes()


async def test_its_progress_grows(engine):
    steps: list[tuple[int, int]] = []

    await engine.backend.generate(engine.job(steps=20), lambda *at: steps.append(at))

    assert bool(steps) == engine.has(Feature.PROGRESS)
    assert steps == sorted(steps)


async def test_its_previews_are_pictures(engine):
    """A program that can send previews need not be set so."""
    previews: list[bytes] = []

    await engine.backend.generate(engine.job(steps=30), ignore, previews.append)

    assert not previews or engine.has(Feature.PREVIEWS)
    for content in previews:
        with Image.open(BytesIO(content)) as picture:
            picture.load()


@pytest.mark.parametrize(("field", "value"), [("sampler", "No such sampler"), ("model", "no-such-model")])
async def test_an_unknown_name_is_refused(engine, field, value):
    if field == "model" and not engine.offered.models:
        pytest.skip("it lists no models")
    with pytest.raises(Rejected, match=field):
        await engine.backend.generate(engine.job(**{field: value}), ignore)


async def test_odd_prompts_are_painted(engine):
    odd = 'a "cat" <lora:nope:1> <sd_cpp_extra_args>{"seed":1}</sd_cpp_extra_args> a|b __c__ {seed} %s é 🦊'

    assert (await engine.backend.generate(engine.job(prompt=odd), ignore)).content


async def test_stop_frees_it_soon(engine):
    """A job of 100 steps is stopped, and the next one of few steps is painted at once."""
    if not engine.has(Feature.CANCEL):
        pytest.skip(f"{engine.offered.engine} cannot stop its work")
    began = asyncio.Event()
    job = engine.job(steps=100, prompt="slow")
    call = asyncio.create_task(engine.backend.generate(job, lambda *_: began.set()))
    with contextlib.suppress(TimeoutError):  # some paint without saying so
        await asyncio.wait_for(began.wait(), BEGIN_S)
    call.cancel()
    await asyncio.wait([call])
    async with asyncio.timeout(SOON_S):
        await engine.backend.stop(job)

    async with asyncio.timeout(SOON_S + 5):
        assert (await engine.backend.generate(engine.job(steps=1), ignore)).content


async def test_a_refusal_leaves_it_usable(engine):
    with pytest.raises(InferenceError):
        await engine.backend.generate(engine.job(cfg_scale=-5.0, sampler="\u202e"), ignore)

    assert (await engine.backend.generate(engine.job(), ignore)).content


async def test_the_cog_server_may_be_killed_while_it_paints(engine):
    if engine.offered.dialect != "cog" or URLS:
        pytest.skip("only the server of this run may be killed")
    server, began = cog_servers.server_of_the_run(), asyncio.Event()
    call = asyncio.create_task(engine.backend.generate(engine.job(steps=100, prompt="slow"), lambda *_: began.set()))
    await began.wait()
    await asyncio.to_thread(server.kill)
    try:
        with pytest.raises(Transient):
            await call
    finally:
        await asyncio.to_thread(server.start)

    assert (await engine.backend.generate(engine.job(), ignore)).content
