"""What the inference server answers: a picture, or a stream of steps, previews and the picture."""

import base64
import threading
from io import BytesIO

import pytest
from PIL import Image, ImageChops, ImageStat

from services.inference.engine import OrderRefused, Preview
from services.inference.painter import PainterEngine
from tests.unit.inference.support import PATH, FakeEngine, events, health, parsed, served


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
        ("image/png;q=0, */*", {}, "image/jpeg"),
        ("text/html", {}, "image/png"),
    ],
)
async def test_the_format_comes_from_the_body_or_else_from_accept(accept, fields, content_type):
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


async def test_a_stream_sends_comments_while_nothing_happens():
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
        served(engine, preview_interval_s=0) as client,
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


async def test_previews_are_made_at_intervals_for_streaming_clients():
    looks = []

    class WatchedEngine(FakeEngine):
        def paint(self, order, on_step):
            def show():
                looks.append(order.prompt)
                return Preview(content=b"so far", format="png")

            for step in range(1, order.steps + 1):
                on_step(step, order.steps, show)
            return super().paint(order, lambda *_: None)

    async with (
        served(WatchedEngine(), preview_interval_s=0) as client,
        client.post(PATH, json={"prompt": "unseen"}) as answer,
    ):
        assert answer.status == 200
    streamed = {"Accept": "text/event-stream"}
    async with (
        served(WatchedEngine(), preview_interval_s=60) as client,
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


async def test_an_order_that_the_engine_refuses_fails_at_once(caplog):
    problem = {"code": "refused", "detail": "out of memory: too large"}
    async with served(FakeEngine(error=OrderRefused("out of memory: too large"))) as client:
        async with client.post(PATH, json={"prompt": "a"}) as answer:
            assert (answer.status, await answer.json()) == (422, problem)
        async with client.post(PATH, json={"prompt": "a"}, headers={"Accept": "text/event-stream"}) as answer:
            assert await events(answer) == [("error", problem)]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_the_engine_may_take_more_steps_than_ordered():
    """A report of step 0 is no progress; the stream has the steps of the engine, and the picture after the last one."""

    class TwoForOne(FakeEngine):
        def paint(self, order, on_step):
            on_step(0, order.steps)
            for step in range(1, 2 * order.steps):
                on_step(step, 2 * order.steps - 1)
            return super().paint(order, lambda *_: None)

    order = {"prompt": "a", "steps": 3}
    async with (
        served(TwoForOne()) as client,
        client.post(PATH, json=order, headers={"Accept": "text/event-stream"}) as answer,
    ):
        found = await events(answer)

    assert [data for name, data in found if name == "progress"] == [{"step": n, "steps": 5} for n in range(1, 6)]
    assert found[-1][0] == "completed"


async def test_health_names_the_models_that_are_being_loaded():
    class Loading(FakeEngine):
        loading = ("sdxl",)

    async with served(Loading()) as client:
        assert (await health(client))["loading"] == ["sdxl"]


async def test_capabilities_are_those_of_the_engine():
    engine = PainterEngine()
    async with served(engine) as client:
        for path in ("/inference/capabilities", "/inference/capabilities/"):
            async with client.get(path) as answer:
                assert await answer.json() == engine.capabilities().model_dump(mode="json")
