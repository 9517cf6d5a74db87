"""What an inference service shows of a picture in work: relayed small and made anew, or passed over."""

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


def watched(made, *told):
    """A stream that brings its picture once its progress has been heard of."""

    async def answer(request, _order):
        heard = asyncio.Event()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        async with made.bus.subscribe(frozenset({"image.progress"}), lambda _event: heard.set()):
            await response.prepare(request)
            for word in told:
                await response.write(event(*word))
            await heard.wait()
        await response.write(event(*completed(picture())))
        return response

    return answer


def event(name: str, data: dict | bytes) -> bytes:
    said = data if isinstance(data, bytes) else json.dumps(data).encode()
    return b"event: %s\ndata: %s\n\n" % (name.encode(), said)


async def told_by(made, *words):
    """The progress that is told of an image whose service says this, and the event that ends it."""
    made.inference.capabilities = {"models": []}
    made.inference.will(watched(made, *words))
    *_, told, end = await made.events(await made.order(), "completed", "failed")
    return told, end


def decoded(url: str) -> bytes:
    kind, content = url.split(",")
    assert kind == "data:image/webp;base64"
    return b64decode(content)


async def test_a_preview_is_told_with_the_progress_small_and_without_anything_but_its_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    async with bench(tmp_path) as made:
        told, _ = await told_by(made, preview(encoded("JPEG", exif=exif.tobytes())), STEP)

        content = decoded(told.data.preview)
        assert (told.data.step, told.data.steps) == (1, 4)
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
async def test_what_is_no_preview_is_passed_over_and_the_picture_comes(tmp_path, word):
    async with bench(tmp_path, MAX_IMAGE_FILE_SIZE="1000000") as made:
        told, end = await told_by(made, word, STEP)

        assert (told.type, told.data.step, told.data.preview) == ("image.progress", 1, None)
        assert (end.type, end.attempt) == ("image.completed", 1)


async def test_previews_do_not_count_against_the_bound_of_a_stream(tmp_path):
    async with bench(tmp_path, MAX_IMAGE_FILE_SIZE="10000") as made:
        made.inference.capabilities = {"models": []}
        made.inference.will(events(*[preview(picture() + bytes(200_000))] * 6, completed(picture())))

        image = await made.final(await made.order())

        assert (image.status, image.attempts) == ("completed", 1)


async def test_previews_can_be_switched_off(tmp_path):
    async with bench(tmp_path, PREVIEWS="false") as made:
        told, _ = await told_by(made, preview(picture()), STEP)

        assert (told.data.step, told.data.preview) == (1, None)


@asynccontextmanager
async def a_teller(bus, clock):
    """A teller at work, and a way to wait for what it tells of a step."""
    outbox = an_outbox(bus, None, clock)
    teller = ProgressPublisher(an_image(), outbox, clock)

    async def told(step):
        teller.on_progress(step, 9)
        async for entry in bus.read(Since(clock.now() - timedelta(hours=1))):
            if entry.event.data.step == step:
                return entry.event.data
        return None

    async with asyncio.TaskGroup() as group:
        telling = group.create_task(teller.run())
        yield teller, told
        telling.cancel()


async def test_of_many_previews_the_newest_is_told_once_a_second(monkeypatch):
    monkeypatch.setattr(progress, "PACE_S", 0)
    clock = ManualClock()
    red, green, blue = (encoded_colour(colour) for colour in ("red", "green", "blue"))
    async with MemoryBus(clock=clock) as bus, a_teller(bus, clock) as (teller, told):
        teller.on_preview(red)
        first = await told(1)
        teller.on_preview(green)
        too_soon = await told(2)
        teller.on_preview(blue)
        clock.advance(1)
        second = await told(3)
        clock.advance(1)
        no_news = await told(4)

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


def test_noise_is_shown_smaller_rather_than_not_at_all():
    """The first steps of a diffusion model are noise, which no format makes small."""
    out = BytesIO()
    Image.effect_noise((256, 256), 90).convert("RGB").save(out, "PNG")

    content = make_preview(out.getvalue(), max_bytes=8_000)

    assert len(content) <= 8_000
    with Image.open(BytesIO(content)) as shown:
        assert shown.size == (128, 128)


def test_what_does_not_fit_even_then_is_none():
    with pytest.raises(BadImage, match="bytes"):
        make_preview(encoded(), max_bytes=10)


@pytest.mark.parametrize("size", [(5_000, 5_000), (30_000, 30_000)])
def test_a_preview_as_large_as_no_picture_in_work_needs_to_be_is_refused_by_its_header(size):
    with pytest.raises(BadImage, match="pixels"):
        make_preview(png_bomb(*size), max_bytes=16_000)
