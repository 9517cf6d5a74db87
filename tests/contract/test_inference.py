"""The contract of an inference back end; a new back end adds one entry to `BACKENDS`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from common.domain.errors import BadImage, Rejected, Transient, Unreachable
from common.runtime.clock import SystemClock
from common.runtime.settings import read_settings
from services.generator.inference.connect import connect_inference
from services.generator.inference.port import InferenceBackend
from tests.inference_double import (
    Answer,
    Inference,
    body,
    completed,
    events,
    inference_double,
    picture,
    preview,
    status,
)
from tests.making import an_image


@dataclass
class BackendBench:
    """A back end, and the server that it talks to; `server` answers as the test says."""

    backend: InferenceBackend
    server: Inference
    ok: Answer  # the server's answers, in the protocol of the back end
    busy: Answer
    refused: Answer
    with_progress: Answer


@asynccontextmanager
async def native() -> AsyncIterator[BackendBench]:
    async with inference_double() as server, aiohttp.ClientSession() as http:
        server.capabilities = {"models": []}
        yield BackendBench(
            backend=connect_inference(server.url, http=http, settings=SETTINGS, clock=SystemClock()),
            server=server,
            ok=body(picture()),
            busy=status(503, headers={"Retry-After": "7"}),
            refused=status(422),
            with_progress=events(("progress", {"step": 1, "steps": 4}), preview(picture("JPEG")), completed(picture())),
        )


SETTINGS = read_settings({"INFERENCE_TIMEOUT": "5", "MAX_IMAGE_FILE_SIZE": "100000"})
BACKENDS: dict[str, Callable[[], AbstractAsyncContextManager[BackendBench]]] = {"native": native}


@pytest.fixture(params=BACKENDS)
async def bench(request) -> AsyncIterator[BackendBench]:
    async with BACKENDS[request.param]() as made:
        yield made


def ignore(_step: int, _steps: int) -> None:
    """For tests without progress."""


async def test_paint_returns_the_encoded_picture(bench):
    bench.server.will(bench.ok)

    assert await bench.backend.paint(an_image(), ignore) == picture()


async def test_paint_reports_progress_and_previews(bench):
    bench.server.will(bench.with_progress)
    steps: list[tuple[int, ...]] = []
    previews: list[bytes] = []

    content = await bench.backend.paint(an_image(), lambda *step: steps.append(step), previews.append)

    assert (content, steps, previews) == (picture(), [(1, 4)], [picture("JPEG")])


async def test_paint_ignores_previews_without_a_callback(bench):
    bench.server.will(bench.with_progress)

    assert await bench.backend.paint(an_image(), ignore) == picture()


async def test_a_busy_server_is_transient_with_its_wait(bench):
    bench.server.will(bench.busy)

    with pytest.raises(Transient) as raised:
        await bench.backend.paint(an_image(), ignore)

    assert raised.value.retry_after_s == 7


async def test_a_refusal_is_rejected(bench):
    bench.server.will(bench.refused)

    with pytest.raises(Rejected):
        await bench.backend.paint(an_image(), ignore)


async def test_an_answer_over_the_limit_is_a_bad_image(bench):
    bench.server.will(body(bytes(200_000)))

    with pytest.raises(BadImage):
        await bench.backend.paint(an_image(), ignore)


async def test_cancelling_paint_stops_the_work_on_the_server(bench):
    bench.server.will(bench.server.hold)
    painting = asyncio.create_task(bench.backend.paint(an_image(), ignore))
    await bench.server.held.wait()

    painting.cancel()

    await asyncio.wait_for(bench.server.dropped.wait(), 30)
    with pytest.raises(asyncio.CancelledError):
        await painting


@pytest.mark.parametrize("kind", BACKENDS)
async def test_a_server_that_is_down_is_unreachable(kind):
    async with BACKENDS[kind]() as bench:
        url = bench.server.url
    async with aiohttp.ClientSession() as http:
        backend = connect_inference(url, http=http, settings=SETTINGS, clock=SystemClock())

        assert not await backend.is_reachable()
        with pytest.raises(Unreachable):
            await backend.paint(an_image(), ignore)


async def test_a_server_that_answers_is_reachable(bench):
    assert await bench.backend.is_reachable()
