"""Answers into the clients of other programs' dialects, over a real socket: only an InferenceError is raised."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from common.domain.errors import InferenceError
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference
from services.generator.inference.sdapi import backend as sdapi_backend
from tests import odd_answers
from tests.engines.bench import ignore, job_with
from tests.engines.cog import ENUMS, SCHEMA
from tests.fuzz.budget import LIMIT_S, fuzzed
from tests.fuzz.json_trees import damaged, nearly
from tests.fuzz.test_inference_answers import MAX_BYTES, check_error

pytestmark = [pytest.mark.timeout(LIMIT_S), pytest.mark.border(rule="B1"), pytest.mark.border(rule="B5")]

PICTURE = base64.b64encode(odd_answers.drawn((64, 64))).decode()
INFO = json.dumps({"seed": 7, "sd_model_name": "m", "sd_model_hash": "0123456789", "index_of_first_image": 0})
STATE = {"interrupted": False, "job": "", "job_count": 0, "sampling_step": 0, "sampling_steps": 0}

# For each dialect, and each path: an answer that it takes.
SDAPI: dict[str, dict] = {
    "/sdapi/v1/samplers": {"": [{"name": "Euler", "aliases": [], "options": {}}]},
    "/sdapi/v1/schedulers": {"": [{"name": "karras", "label": "Karras"}]},
    "/sdapi/v1/sd-models": {"": [{"title": "m [0]", "model_name": "m", "hash": "0123456789"}]},
    "/sdapi/v1/options": {"forge_preset": "sd"},
    "/sdapi/v1/progress": {"progress": 0.0, "state": STATE, "current_image": PICTURE},
    "/internal/progress": {"active": True, "progress": 0.5, "live_preview": PICTURE, "id_live_preview": 1},
    "/sdapi/v1/txt2img": {"images": [PICTURE], "info": INFO},
}
SDNEXT = SDAPI | {"/sdapi/v1/progress": {"id": "", "progress": 0.0, "state": STATE, "current_image": None}}
SDSERVER = SDAPI | {
    "/sdcpp/v1/capabilities": {"limits": {"max_width": 4096, "max_height": 4096}, "samplers": ["euler"]}
}
COG: dict[str, dict] = {
    "/health-check": {"status": "READY", "version": {"coglet": "0.23.1"}},
    "/openapi.json": {
        "paths": {"/predictions": {"post": {}}},
        "components": {"schemas": {"Input": SCHEMA, **ENUMS}},
    },
    "/predictions": {
        "status": "succeeded",
        "output": [f"data:image/png;base64,{PICTURE}"],
        "metrics": {"predict_time": 1},
    },
}
OPENAI: dict[str, dict] = {
    "/v1/models": {"data": [{"id": "m", "owned_by": "vllm"}]},
    "/v1/images/generations": {"created": 1, "data": [{"b64_json": PICTURE, "url": None}]},
}
OPENAI_WITH_URL = OPENAI | {"/v1/images/generations": {"data": [{"url": "/v1/models"}], "error": {"code": "x"}}}
DIALECTS: dict[str, tuple[str, dict[str, dict]]] = {
    "A1111": ("sdapi", SDAPI),
    "SD.Next": ("sdapi", SDNEXT),
    "sd-server": ("sdapi", SDSERVER),
    "cog": ("cog", COG),
    "openai": ("openai", OPENAI),
    "openai with a URL": ("openai", OPENAI_WITH_URL),
}


class Answering:
    """A server whose answer to one path is replaced."""

    def __init__(self) -> None:
        self.url = ""
        self.documents: dict[str, dict] = {}
        self.path, self.status, self.body, self.content_type = "", 200, b"", "application/json"

    async def answer(self, request: web.Request) -> web.Response:
        path = "/predictions" if request.path.startswith("/predictions") else request.path
        if path == self.path:
            return web.Response(status=self.status, body=self.body, headers={"Content-Type": self.content_type})
        found = self.documents.get(path)
        if found is None:
            return web.Response(status=404)
        return web.json_response(found.get("", found))


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    server = Answering()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = "http://{}:{}".format(*runner.addresses[0][:2])
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
def ask(monkeypatch):
    """Paint with a back end whose server answers one path as given; any error but an InferenceError is raised."""
    monkeypatch.setattr(sdapi_backend, "_PATIENCE_S", 0.0)
    settings = read_settings({"INFERENCE_TIMEOUT": "3", "MAX_IMAGE_FILE_SIZE": str(MAX_BYTES)})
    with asyncio.Runner() as runner:

        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Answering, aiohttp.ClientSession]]:
            async with answering() as server, aiohttp.ClientSession() as http:
                yield server, http

        stack = opened()
        server, http = runner.run(stack.__aenter__())

        async def paint(name: str, path: str, status: int, body: bytes, content_type: str) -> None:
            scheme, server.documents = DIALECTS[name]
            server.path, server.status, server.body, server.content_type = path, status, body, content_type
            backend = connect_inference(f"{scheme}+{server.url}", http=http, settings=settings, clock=SystemClock())
            model = "sd15" if scheme == "cog" else "m"
            with contextlib.suppress(InferenceError):
                await backend.capabilities()
            try:
                await backend.generate(job_with(model=model), ignore, lambda _: None)
            except InferenceError as error:
                check_error(error)

        yield lambda *answer: runner.run(paint(*answer))
        runner.run(stack.__aexit__(None, None, None))


STATUSES = st.sampled_from([200] * 8 + [201, 204, 307, 400, 401, 404, 405, 409, 422, 429, 500, 503])
TYPES = st.sampled_from(["application/json"] * 4 + ["text/event-stream", "image/png", "text/html; charset=nope", ""])


@pytest.mark.parametrize("name", DIALECTS)
def test_each_answer_ends_in_a_picture_or_a_usable_error(ask, name):
    _, documents = DIALECTS[name]

    @fuzzed(60)
    @given(data=st.data(), path=st.sampled_from(sorted(documents)), status=STATUSES, content_type=TYPES)
    def check(data, path, status, content_type) -> None:
        body = data.draw(nearly(documents[path]).flatmap(damaged))
        if "" in documents[path]:  # a list, which the document holds under an empty name
            with contextlib.suppress(ValueError, AttributeError, KeyError, RecursionError, TypeError):
                body = json.dumps(json.loads(body)[""]).encode()
        ask(name, path, status, body, content_type)

    check()


@pytest.mark.parametrize("name", ["cog", "openai"])
def test_each_stream_ends_in_a_picture_or_a_usable_error(ask, name):
    path = {"cog": "/predictions", "openai": "/v1/images/generations"}[name]
    names = [
        "start",
        "log",
        "output",
        "completed",
        "error",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    documents: list[dict] = [
        {"data": "1/4", "error": None},
        {"b64_json": PICTURE},
        COG["/predictions"],
        {"error": {"code": "x"}},
    ]
    events = st.tuples(st.sampled_from(names), nearly(*documents).flatmap(damaged))

    @fuzzed(60)
    @given(stream=st.lists(events, max_size=4))
    def check(stream) -> None:
        body = b"".join(b"event: %s\ndata: %s\n\n" % (event.encode(), data) for event, data in stream)
        ask(name, path, 200, body, "text/event-stream")

    check()
