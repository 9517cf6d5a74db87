"""Odd answers of a ComfyUI to each of its routes: each ends in an error of the port, or in a picture."""

import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from common.domain.errors import InferenceError
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.comfyui.follower import RunFollower
from services.generator.inference.connect import connect_inference
from tests.engines.comfyui import comfyui
from tests.making import a_job

pytestmark = pytest.mark.border(rule="B1")

MODEL = "sd_xl_base_1.0.safetensors"
ROUTES = ("system_stats", "object_info", "prompt", "queue", "history", "view")
DEEP = "[" * 50_000
ODD = {
    "empty": b"",
    "null": b"null",
    "number": b"1e400",
    "nan": b"NaN",
    "text": b'"text"',
    "list": b"[[], [1], [1, 2, 3], {}]",
    "object": b'{"a": {"b": []}}',
    "html": b"<html>" + b"x" * 10_000,
    "deep": DEEP.encode(),
    "not UTF-8": b'{"\xff": 1}',
    "surrogate": b'{"error": {"message": "\\ud800\\u0000\\u202e", "details": 7}, "node_errors": [1]}',
    "a graph in place of a job": b'{"queue_running": {"a": 1}, "queue_pending": [{}, [], ["x"], null]}',
    "odd node errors": b'{"prompt_id": 7, "node_errors": {"9": {"errors": 3, "dependent_outputs": "9"}, "3": null}}',
    "refused node": b'{"error": null, "node_errors": {"9": {"errors": [null, 4, {"extra_info": []}]}}}',
    "odd system": b'{"system": {"comfyui_version": ["0", 12]}}',
    "16 MB": b'{"a": "' + b"x" * 16_000_001 + b'"}',
}
ENTRIES: list = [
    [],
    {},
    {"status": 7, "outputs": []},
    {"status": {"status_str": ["error"], "messages": [7, [], ["a"], ["a", 1], [["x"], {}]]}},
    {"status": {"messages": [["execution_error", {"exception_message": 7, "node_type": {}, "exception_type": None}]]}},
    {"outputs": {"9": {"images": [7]}}},
    {"outputs": {"9": {"images": [{"filename": "../../../etc/passwd", "subfolder": "..", "type": "output"}]}}},
    {"outputs": {"9": {"images": [{"filename": "a.png", "subfolder": None, "type": 1}]}}},
    {"outputs": {"9": {"images": [{"filename": "x" * 100_000}]}}, "prompt": [1, 2, {"3": {"inputs": []}}]},
    {"outputs": {"9": {"images": {"filename": "a.png"}}}, "prompt": {}},
]


def ignore(*_arguments: object) -> None:
    """For tests without progress."""


async def is_usable(fake, job) -> bool:
    """Whether everything that a generator does with the server ends in a result or in an error of the port."""
    settings, errors = read_settings({"INFERENCE_TIMEOUT": "2"}), []
    async with aiohttp.ClientSession() as http:
        backend = connect_inference(f"comfyui+{fake.url}", http=http, settings=settings, clock=SystemClock())
        for call in (backend.capabilities, lambda: backend.generate(job, ignore, ignore)):
            try:
                await call()
            except InferenceError as error:
                errors.append(error)
        await backend.stop(job)
    return all(len(error.detail) <= 2_000 and error.detail.isprintable() for error in errors)


def job():
    return replace(a_job(), model=MODEL)


@pytest.mark.parametrize("route", ROUTES)
async def test_each_odd_answer_ends_in_a_usable_error(route):
    async with comfyui() as fake:
        for content in ODD.values():
            for status in (200, 400):
                fake.answers[route] = web.Response(status=status, body=content)

                assert await is_usable(fake, job())


async def test_each_odd_entry_of_the_history_ends_in_a_usable_error():
    async with comfyui() as fake:
        for entry in ENTRIES:
            painted = job()
            fake.history[painted.remote_id] = entry

            assert await is_usable(fake, painted)


@pytest.mark.parametrize("described", [7, [], {}, {"input": 7}, {"input": {"required": [1]}}], ids=json.dumps)
async def test_odd_nodes_are_read_as_nodes_without_inputs(described):
    async with comfyui() as fake:
        for name in ("KSampler", "CheckpointLoaderSimple", "PreviewImage"):
            fake.answers["object_info"] = web.json_response({name: described})

            assert await is_usable(fake, job())


@pytest.mark.parametrize(
    "spec",
    [None, 7, [], [[]], [[7, None, {}]], ["COMBO"], ["COMBO", {"options": 7}], ["INT", {"max": "x", "step": -1}]],
    ids=json.dumps,
)
async def test_odd_inputs_of_nodes_are_no_limits(spec):
    async with comfyui() as fake:
        for node, name in (("KSampler", "sampler_name"), ("KSampler", "steps"), ("EmptyLatentImage", "width")):
            fake.classes[node] = {"input": {"required": fake.classes[node]["input"]["required"] | {name: spec}}}

        settings = read_settings({})
        async with aiohttp.ClientSession() as http:
            backend = connect_inference(f"comfyui+{fake.url}", http=http, settings=settings, clock=SystemClock())
            try:
                offered = await backend.capabilities()
            except InferenceError:
                return
        assert all(model.grid is None or model.grid > 0 for model in offered.models)


MESSAGES = [
    "null", "7", "[]", "{", '{"type": "progress"}', '{"type": "progress", "data": []}', DEEP, "\ud800",
    '{"type": "executing", "data": {"node": {}}}', '{"type": "status", "data": {"status": 7}}',
    '{"type": "progress", "data": {"prompt_id": "p", "node": "3", "value": 1e300, "max": "x"}}',
    '{"type": "progress", "data": {"prompt_id": "p", "node": "3", "value": 7, "max": 3}}',
    '{"type": "progress", "data": {"prompt_id": "p", "node": ["3"], "value": 1, "max": 3}}',
    '{"type": ["a"], "data": {"prompt_id": "p"}}',
    b"", b"\x00", b"\x00\x00\x00\x01", b"\x00\x00\x00\x04\xff\xff\xff\xff{}", b"\x00\x00\x00\x04\x00\x00\x00\x02[]x",
    b"\x00\x00\x00\x01\x00\x00\x00\x01" + bytes(300_000), b"\x00\x00\x00\x63abc",
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: str(message)[:40])
def test_odd_messages_of_the_websocket_are_ignored(message):
    seen: list[object] = []
    follower = RunFollower("p", ("3",), 4, lambda *step: seen.append(step), seen.append)
    kind = aiohttp.WSMsgType.TEXT if isinstance(message, str) else aiohttp.WSMsgType.BINARY

    follower.handle(aiohttp.WSMessage(kind, message, None))

    assert seen == []


async def test_a_flood_on_the_websocket_does_not_end_the_run():
    async with comfyui() as fake:
        fake.step_s = 0.05
        painting = asyncio.create_task(is_usable(fake, job()))
        for _ in range(50):
            await fake.sockets.flood(b"\x00\x00\x00\x01\x00\x00\x00\x01" + bytes(100_000))

        assert await painting
    assert len(fake.painted) == 1
