"""Previews of an inference service: encoded again in a small size and published, or ignored."""

import asyncio
import json
from base64 import b64decode
from contextlib import asynccontextmanager
from datetime import timedelta
from io import BytesIO

import pytest
from aiohttp import web
from PIL import Image

from common.bus.memory import MemoryBus
from common.bus.port import Since
from common.domain.errors import BadImage
from common.runtime.clock import ManualClock
from services.generator import progress
from services.generator.pictures import make_preview
from services.generator.progress import ProgressPublisher
from tests.inference_double import completed, events, picture, preview
from tests.making import an_image, an_outbox
from tests.unit.generator.test_generate import bench
from tests.unit.generator.test_pictures import encoded, png_bomb

STEP = ("progress", {"step": 1, "steps": 4})


def until_published(made, *words):
    """A stream that sends its picture once its progress has been published."""

    async def answer(request, _order):
        published = asyncio.Event()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        async with made.bus.subscribe(frozenset({"image.progress"}), lambda _event: published.set()):
            await response.prepare(request)
            for word in words:
                await response.write(event(*word))
            await published.wait()
        await response.write(event(*completed(picture())))
        return response

    return answer


def event(name: str, data: dict | bytes) -> bytes:
    said = data if isinstance(data, bytes) else json.dumps(data).encode()
    return b"event: %s\ndata: %s\n\n" % (name.encode(), said)


async def progress_with(made, *words):
    """The progress event of an image whose service sends these events, and its final event."""
    made.inference.capabilities = {"models": []}
    made.inference.will(until_published(made, *words))
    *_, published, end = await made.events(await made.order(), "completed", "failed")
    return published, end


def decoded(url: str) -> bytes:
    kind, content = url.split(",")
    assert kind == "data:image/webp;base64"
    return b64decode(content)


async def test_a_preview_is_published_small_and_without_metadata(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    async with bench(tmp_path) as made:
        published, _ = await progress_with(made, preview(encoded("JPEG", exif=exif.tobytes())), STEP)

        content = decoded(published.data.preview)
        assert (published.data.step, published.data.steps) == (1, 4)
        assert b"taken at home" not in content
        with Image.open(BytesIO(content)) as shown:
            assert (shown.format, shown.size) == ("WEBP", (256, 128))


NONE = {
    "no picture": preview(b"<html>busy</html>"),
    "cut short": preview(picture()[:-100]),
    "a bomb": preview(png_bomb(30_000, 30_000)),
    "no base64": ("preview", {"b64_json": "*", "format": "png"}),
    "nothing": ("preview", {}),
    "no JSON": ("preview", b"{"),
    "no object": ("preview", b"[]"),
    "too large": preview(picture() + bytes(300_000)),
    "larger than a picture may be": preview(bytes(6_000_000)),
}


@pytest.mark.parametrize("word", NONE.values(), ids=NONE)
async def test_a_bad_preview_is_ignored_and_the_image_completes(tmp_path, word):
    async with bench(tmp_path, MAX_IMAGE_FILE_SIZE="1000000") as made:
        published, end = await progress_with(made, word, STEP)

        assert (published.type, published.data.step, published.data.preview) == ("image.progress", 1, None)
        assert (end.type, end.attempt) == ("image.completed", 1)


async def test_previews_do_not_count_towards_the_stream_limit(tmp_path):
    async with bench(tmp_path, MAX_IMAGE_FILE_SIZE="10000") as made:
        made.inference.capabilities = {"models": []}
        made.inference.will(events(*[preview(picture() + bytes(200_000))] * 6, completed(picture())))

        image = await made.final(await made.order())

        assert (image.status, image.attempts) == ("completed", 1)


async def test_previews_can_be_switched_off(tmp_path):
    async with bench(tmp_path, PREVIEWS="false") as made:
        published, _ = await progress_with(made, preview(picture()), STEP)

        assert (published.data.step, published.data.preview) == (1, None)


@asynccontextmanager
async def a_publisher(bus, clock):
    """A running publisher, and a function that reports a step and waits for its event."""
    outbox = an_outbox(bus, None, clock)
    publisher = ProgressPublisher(an_image(), outbox, clock)

    async def report(step):
        publisher.on_progress(step, 9)
        async for entry in bus.read(Since(clock.now() - timedelta(hours=1))):
            if entry.event.data.step == step:
                return entry.event.data
        return None

    async with asyncio.TaskGroup() as group:
        running = group.create_task(publisher.run())
        yield publisher, report
        running.cancel()


async def test_the_newest_preview_is_published_once_a_second(monkeypatch):
    monkeypatch.setattr(progress, "PACE_S", 0)
    clock = ManualClock()
    red, green, blue = (encoded_colour(colour) for colour in ("red", "green", "blue"))
    async with MemoryBus(clock=clock) as bus, a_publisher(bus, clock) as (publisher, report):
        publisher.on_preview(red)
        first = await report(1)
        publisher.on_preview(green)
        too_soon = await report(2)
        publisher.on_preview(blue)
        clock.advance(1)
        second = await report(3)
        clock.advance(1)
        no_news = await report(4)

    assert [colour_of(decoded(each.preview)) for each in (first, second)] == ["red", "blue"]
    assert (too_soon.preview, no_news.preview) == (None, None)


def encoded_colour(colour: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (64, 64), colour).save(out, "PNG")
    return out.getvalue()


def colour_of(content: bytes) -> str:
    with Image.open(BytesIO(content)) as shown:
        shades = list(shown.convert("RGB").resize((1, 1)).tobytes())
    return ["red", "green", "blue"][shades.index(max(shades))]


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(64, 64), (1024, 512), (16, 2000)])
def test_every_preview_fits(image_format, size):
    with Image.open(BytesIO(make_preview(encoded(image_format, size), max_bytes=16_000))) as shown:
        assert shown.format == "WEBP"
        assert max(shown.size) <= 256


def test_a_noisy_preview_is_published_smaller():
    """The first steps of a diffusion model are noise, which no format compresses well."""
    out = BytesIO()
    Image.effect_noise((256, 256), 90).convert("RGB").save(out, "PNG")

    content = make_preview(out.getvalue(), max_bytes=8_000)

    assert len(content) <= 8_000
    with Image.open(BytesIO(content)) as shown:
        assert shown.size == (128, 128)


def test_a_preview_that_fits_at_no_size_is_refused():
    with pytest.raises(BadImage, match="bytes"):
        make_preview(encoded(), max_bytes=10)


@pytest.mark.parametrize("size", [(5_000, 5_000), (30_000, 30_000)])
def test_an_oversized_preview_is_refused_by_its_header(size):
    with pytest.raises(BadImage, match="pixels"):
        make_preview(png_bomb(*size), max_bytes=16_000)
