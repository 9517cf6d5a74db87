import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
import pytest
from aiohttp import web
from PIL import Image, ImageChops, ImageStat

from common.clock import SystemClock
from services.inference.app import build_app
from services.inference.engine import Capabilities, InferenceRequest, ModelCard, OnStep, Picture, Preview
from services.inference.jobs import MAX_KEPT
from services.inference.painter import PainterEngine

PATH = "/inference/images/generations"


class FakeEngine:
    """Takes a step each time `go` is released (at once with `go=None`), and remembers what it did."""

    name = "fake"

    def __init__(self, *, gated: bool = False, error: Exception | None = None, can: Capabilities | None = None) -> None:
        self.go = threading.Semaphore(0)
        self.painted: list[InferenceRequest] = []
        self.steps: list[int] = []
        self.began, self.left = threading.Event(), threading.Event()
        self.error = error
        self._gated, self._can = gated, can

    def capabilities(self) -> Capabilities:
        card = ModelCard(id="sdxl", name="Fake", samplers=("Euler",), max_width=1024)
        return self._can or Capabilities(engine="fake", notice="", models=(card,), samplers=("Euler",))

    def paint(self, order: InferenceRequest, on_step: OnStep) -> Picture:
        self.painted.append(order)
        self.began.set()
        try:
            for step in range(1, order.steps + 1):
                if self._gated and not self.go.acquire(timeout=20):
                    raise TimeoutError("the test never let it go on")
                if self.error:
                    raise self.error
                on_step(step, order.steps)
                self.steps.append(step)
        finally:
            self.left.set()
        seed = order.seed if order.seed >= 0 else 99
        return Picture(content=b"picture", format=order.format, width=order.width, height=order.height, seed=seed)


@asynccontextmanager
async def served(engine, **options) -> AsyncIterator[aiohttp.ClientSession]:
    """The app over real HTTP, run as the wiring runs it."""
    app = build_app(engine, **{"api_key": None, "concurrency": 1, "clock": SystemClock(), **options})
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        await runner.cleanup()


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


async def health(client: aiohttp.ClientSession) -> dict:
    async with client.get("/healthz") as answer:
        return await answer.json()


async def events(answer: aiohttp.ClientResponse) -> list[tuple[str, dict]]:
    blocks = (await answer.read()).split(b"\n\n")
    return [parsed(block) for block in blocks if block and not block.startswith(b":")]


def parsed(block: bytes) -> tuple[str, dict]:
    name, data = block.decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


# --- answers


async def test_generations_answers_with_the_picture():
    order = {"prompt": "a cat", "width": 64, "height": 128, "steps": 2, "seed": 5}
    async with served(PainterEngine()) as client, client.post(PATH, json=order) as answer:
        body = await answer.read()

        assert (answer.status, answer.content_type, answer.headers["X-Seed"]) == (200, "image/png", "5")
        assert body.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("accept", "fields", "content_type"),
    [
        ("image/webp;q=0.5, image/jpeg", {}, "image/jpeg"),
        ("image/png;q=0, image/webp", {}, "image/webp"),
        ("image/jpeg", {"format": "webp"}, "image/webp"),
        ("*/*", {}, "image/png"),
    ],
)
async def test_generations_takes_the_format_from_the_body_or_else_from_accept(accept, fields, content_type):
    async with (
        served(FakeEngine()) as client,
        client.post(PATH + "/", json={"prompt": "a", **fields}, headers={"Accept": accept}) as answer,
    ):
        assert (answer.status, answer.content_type, await answer.read()) == (200, content_type, b"picture")


async def test_generations_streams_each_step_and_then_the_picture():
    async with (
        served(FakeEngine()) as client,
        client.post(PATH, json={"prompt": "a", "steps": 3}, headers={"Accept": "text/event-stream"}) as answer,
    ):
        assert answer.content_type == "text/event-stream"
        assert await events(answer) == [
            ("progress", {"step": 1, "steps": 3}),
            ("progress", {"step": 2, "steps": 3}),
            ("progress", {"step": 3, "steps": 3}),
            ("completed", {"b64_json": base64.b64encode(b"picture").decode(), "format": "png", "seed": 99}),
        ]


async def test_generations_streams_while_it_paints_and_keeps_a_silent_line_alive():
    engine = FakeEngine(gated=True)
    async with (
        served(engine, keep_alive_s=0.01) as client,
        client.post(PATH, json={"prompt": "a", "steps": 2}, headers={"Accept": "text/event-stream"}) as answer,
    ):
        assert await answer.content.readuntil(b"\n\n") == b": waiting\n\n"
        engine.go.release()
        while (block := await answer.content.readuntil(b"\n\n")).startswith(b":"):
            pass
        assert block == b'event: progress\ndata: {"step": 1, "steps": 2}\n\n'
        assert not engine.left.is_set()
        engine.go.release()
        assert [name for name, _ in await events(answer)] == ["progress", "completed"]


async def test_generations_streams_previews_of_what_is_painted_so_far():
    order = {"prompt": "a red boat on the sea", "width": 512, "height": 256, "steps": 4, "seed": 7}
    go = threading.Semaphore(0)

    def wait_for_the_test(_s: float) -> None:
        assert go.acquire(timeout=20)

    engine, previews = PainterEngine(step_delay_s=1, pause=wait_for_the_test), []
    async with (
        served(engine, preview_pace_s=0) as client,
        client.post(PATH, json=order, headers={"Accept": "text/event-stream"}) as answer,
    ):
        for step in range(1, 4):
            go.release()
            name, data = parsed(await answer.content.readuntil(b"\n\n"))
            assert (name, data["step"], data["format"]) == ("preview", step, "jpeg")
            previews.append(decoded(data))
            assert parsed(await answer.content.readuntil(b"\n\n")) == ("progress", {"step": step, "steps": 4})
        go.release()
        (progress, _), (_, finished) = await events(answer)

    assert progress == "progress"  # the last step shows no more than the picture
    assert {each.size for each in previews} == {(256, 128)}
    away = [difference(each, decoded(finished).resize((256, 128))) for each in previews]
    assert away[-1] < away[0] / 2


def decoded(data: dict) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(data["b64_json"]))).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean)


async def test_previews_are_made_at_their_pace_and_for_those_alone_who_read_on_the_way():
    looks = []

    class Watched(FakeEngine):
        def paint(self, order, on_step):
            def show():
                looks.append(order.prompt)
                return Preview(content=b"so far", format="png")

            for step in range(1, order.steps + 1):
                on_step(step, order.steps, show)
            return super().paint(order, lambda *_: None)

    async with served(Watched(), preview_pace_s=0) as client, client.post(PATH, json={"prompt": "unseen"}) as answer:
        assert answer.status == 200
    streamed = {"Accept": "text/event-stream"}
    async with (
        served(Watched(), preview_pace_s=60) as client,
        client.post(PATH, json={"prompt": "quick"}, headers=streamed) as answer,
    ):
        assert "preview" not in {name for name, _ in await events(answer)}
    assert looks == []


async def test_generations_says_that_the_engine_failed(caplog):
    async with served(FakeEngine(error=ValueError("secret"))) as client:
        async with client.post(PATH, json={"prompt": "a"}) as answer:
            assert answer.status == 500
            assert await answer.json() == {"code": "engine_failed", "detail": "fake failed: ValueError"}
        async with client.post(PATH, json={"prompt": "a"}, headers={"Accept": "text/event-stream"}) as answer:
            assert await events(answer) == [("error", {"code": "engine_failed", "detail": "fake failed: ValueError"})]
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True, True]


async def test_capabilities_are_those_of_the_engine():
    engine = PainterEngine()
    async with served(engine) as client:
        for path in ("/inference/capabilities", "/inference/capabilities/"):
            async with client.get(path) as answer:
                assert await answer.json() == engine.capabilities().model_dump(mode="json")


# --- refusals


@pytest.mark.parametrize(
    ("body", "status", "code", "detail"),
    [
        (b"{", 400, "bad_json", "not JSON"),
        (b"\xff{}", 400, "bad_json", "not UTF-8: byte 0"),
        (b"[" * 60_000, 400, "bad_json", "nested too deeply"),
        (b'{"prompt": "a", "cfg_scale": NaN}', 400, "bad_json", "NaN is not JSON"),
        (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, "bad_json", "number that cannot be taken"),
        (b'["prompt"]', 400, "bad_json", "expected a JSON object, got an array"),
        (b"{}", 422, "invalid", "prompt: expected a value, got nothing"),
        (b'{"prompt": ""}', 422, "invalid", 'got ""'),
        (b'{"prompt": "' + b"x" * 10_001 + b'"}', 422, "invalid", "got a string of 10001 characters"),
        (b'{"prompt": "\\ud800"}', 422, "invalid", "prompt: expected"),
        (b'{"prompt": "a", "width": "512"}', 422, "invalid", 'width: expected integer, got "512"'),
        (b'{"prompt": "a", "width": 513}', 422, "invalid", "width: expected a multiple of 8, got 513"),
        (b'{"prompt": "a", "width": 2048}', 422, "invalid", "width: expected at most 1024 for sdxl, got 2048"),
        (b'{"prompt": "a", "cfg_scale": 1e999}', 422, "invalid", "cfg_scale: expected a finite number"),
        (b'{"prompt": "a", "num_images": 2}', 422, "invalid", "num_images: expected 1, got 2"),
        (b'{"prompt": "a", "guidance": 3}', 422, "invalid", "guidance: expected no such field, only prompt,"),
        (b'{"prompt": "a", "model": "sd9"}', 422, "invalid", 'model: expected one of sdxl, got "sd9"'),
        (b'{"prompt": "a", "sampler": "Heun"}', 422, "invalid", 'sampler: expected one of Euler, got "Heun"'),
        (b'{"prompt": "' + b"x" * 300_000 + b'"}', 413, "too_large", "262144 bytes"),
    ],
)
async def test_generations_refuses(body, status, code, detail):
    engine = FakeEngine()
    headers = {"Content-Type": "application/json"}
    async with served(engine) as client, client.post(PATH, data=body, headers=headers) as answer:
        problem = await answer.json()

        assert (answer.status, problem["code"]) == (status, code)
        assert detail in problem["detail"]
    assert engine.painted == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", PATH, {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("POST", PATH, {"Content-Type": "application/json", "Idempotency-Key": "k" * 256}, 400, "bad_request"),
        ("GET", PATH, {}, 405, "method_not_allowed"),
        ("POST", "/v1/images", {}, 404, "not_found"),
    ],
)
async def test_other_requests_are_refused_as_json(method, path, headers, status, code):
    body = b"{}" if method == "POST" else None
    async with (
        served(FakeEngine()) as client,
        client.request(method, path, data=body, headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_a_key_is_asked_for_where_one_is_set():
    async with served(FakeEngine(), api_key="sesame") as client:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer open"}, 401),
            ({"Authorization": "sesame"}, 401),
            ({"Authorization": "Bearer sesame"}, 200),
        ):
            async with client.get("/inference/capabilities", headers=headers) as answer:
                assert answer.status == status
        async with client.post(PATH, json={"prompt": "a"}) as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "sesame" not in await answer.text()
        async with client.get("/healthz") as answer:
            assert answer.status == 200


# --- one painting, many callers


@pytest.mark.parametrize("accept", ["image/png", "text/event-stream"])
async def test_a_dropped_connection_stops_the_work(accept):
    engine = FakeEngine(gated=True)
    async with served(engine) as client:
        call = asyncio.create_task(client.post(PATH, json={"prompt": "a", "steps": 150}, headers={"Accept": accept}))
        await happened(engine.began)
        if accept == "image/png":
            call.cancel()
        else:
            (await call).close()

        while not engine.left.is_set():
            await health(client)  # a round trip, in which the server sees the connection go
            engine.go.release()

        assert len(engine.steps) < 20
        while (await health(client))["painting"]:
            pass


async def test_a_repeat_of_a_key_joins_the_painting_in_hand_and_then_the_finished_one():
    engine = FakeEngine(gated=True)
    order, key = {"prompt": "a", "steps": 1}, {"Idempotency-Key": "k"}
    async with served(engine) as client:
        first = asyncio.create_task(client.post(PATH, json=order, headers=key))
        await happened(engine.began)
        second = await client.post(PATH, json=order, headers={**key, "Accept": "text/event-stream"})
        engine.go.release()

        assert [name for name, _ in await events(second)] == ["progress", "completed"]
        for answer in (await first, await client.post(PATH, json=order, headers=key)):
            assert (answer.status, await answer.read()) == (200, b"picture")
        async with client.post(PATH, json={**order, "seed": 1}, headers=key) as answer:
            assert (answer.status, (await answer.json())["code"]) == (422, "idempotency_key_reused")
    assert len(engine.painted) == 1


async def test_a_caller_who_leaves_does_not_stop_the_painting_of_another():
    engine = FakeEngine(gated=True)
    order, key = {"prompt": "a", "steps": 1}, {"Idempotency-Key": "k"}
    async with served(engine) as client:
        first = asyncio.create_task(client.post(PATH, json=order, headers=key))
        await happened(engine.began)
        second = await client.post(PATH, json=order, headers={**key, "Accept": "text/event-stream"})
        first.cancel()
        await health(client)
        engine.go.release()

        assert [name for name, _ in await events(second)] == ["progress", "completed"]
    assert len(engine.painted) == 1


async def test_only_the_last_finished_paintings_are_kept_for_their_keys():
    engine = FakeEngine()
    async with served(engine) as client:
        for key in [*range(MAX_KEPT + 1), MAX_KEPT, 0]:  # the last one is still kept, the first is not
            async with client.post(PATH, json={"prompt": "a"}, headers={"Idempotency-Key": str(key)}) as answer:
                assert answer.status == 200
    assert len(engine.painted) == MAX_KEPT + 2


async def test_a_failed_painting_is_not_kept_for_its_key():
    engine = FakeEngine(error=ValueError("once"))
    async with served(engine) as client:
        for status in (500, 200):
            async with client.post(PATH, json={"prompt": "a"}, headers={"Idempotency-Key": "k"}) as answer:
                assert answer.status == status
            engine.error = None


async def test_a_full_queue_is_told_when_to_ask_again():
    engine = FakeEngine(gated=True)
    async with served(engine, max_waiting=1) as client:
        calls = [asyncio.create_task(client.post(PATH, json={"prompt": "a", "steps": 1})) for _ in range(2)]
        while (await health(client))["waiting"] < 1:
            pass

        async with client.post(PATH, json={"prompt": "a"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
            assert (await answer.json())["code"] == "busy"

        engine.go.release(2)
        assert [(await call).status for call in calls] == [200, 200]


async def test_shutdown_finishes_what_is_painted_and_refuses_what_waits():
    engine = FakeEngine(gated=True)
    app = build_app(engine, api_key=None, concurrency=1, clock=SystemClock())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=20)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        calls = [asyncio.create_task(client.post(PATH, json={"prompt": "a", "steps": 1})) for _ in range(2)]
        while (await health(client))["waiting"] < 1:
            pass

        cleanup = asyncio.create_task(runner.cleanup())
        refused = next(done for done in (await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED))[0])
        assert refused.result().status == 503
        assert (await refused.result().json())["code"] == "shutting_down"
        engine.go.release()

        painted = next(call for call in calls if call is not refused)
        assert (await painted).status == 200
        await cleanup
