"""Attacks by the inference service or by a publishing service."""

import asyncio
import gzip
import json
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image, ImageCms

from common.bus.port import WorkQueue
from common.domain.images import new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from tests.inference_double import body, completed, events, picture
from tests.unit.generator.test_generate import bench

MB = 1_000_000


@pytest.mark.fault(row=36)
async def test_a_gzip_bomb_is_cut_at_the_limit(tmp_path):
    """300 MB in 300 kB: compression is not accepted, and no more is unpacked than the limit."""
    asked, bomb = [], gzip.compress(bytes(300 * MB), 9)

    async def explode(request, _order):
        asked.append(request.headers["Accept-Encoding"])
        return web.Response(body=bomb, headers={"Content-Type": "image/png", "Content-Encoding": "gzip"})

    async with bench(tmp_path, MAX_IMAGE_FILE_SIZE=str(MB)) as made:
        made.inference.always(explode)
        before = _resident_bytes()
        image = await made.final(await made.order())

        assert (image.status, image.error.code) == ("failed", "bad_image")
        assert set(asked) == {"identity"}
        assert _resident_bytes() - before < 60 * MB
        assert made.files() == []


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.fault(row=38)
async def test_a_url_in_the_answer_is_not_fetched(tmp_path):
    fetched = []

    async def trap(request, _order):
        fetched.append(request.path)
        return web.Response(body=picture(), content_type="image/png")

    async with bench(tmp_path) as made:
        url = f"{made.inference.url}/secret.png"
        made.inference.will(body(json.dumps({"data": [{"url": url}]}).encode(), "application/json"), body(url.encode()))
        first = await made.final(await made.order())
        made.inference.capabilities = {"models": []}
        made.inference.will(*[events(("completed", {"url": url, "format": "png"}))] * 2)
        second = await made.final(await made.order())

        assert (first.status, first.error.code) == ("failed", "bad_image")
        assert second.status == "failed"
        assert fetched == []
        assert len(made.inference.orders) == 4


@pytest.mark.fault(row=39)
async def test_an_image_is_recorded_with_its_real_format(tmp_path):
    """Another format than its content type, EXIF with a location, a colour profile."""
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}
    out = BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (300, 200), "red").save(out, "JPEG", exif=exif.tobytes(), icc_profile=profile)

    async with bench(tmp_path) as made:
        made.inference.will(body(out.getvalue(), "image/png"))
        image = await made.final(await made.order(width=300, height=200))

        assert (image.status, image.format, image.width, image.height) == ("completed", "jpeg", 300, 200)
        assert image.image_file.endswith(f"{image.id}.jpg")
        thumbnail = Image.open(BytesIO(await made.media.get(image.thumbnail)))
        assert (dict(thumbnail.getexif()), thumbnail.info.get("icc_profile")) == ({}, None)


async def test_an_image_in_a_stream_is_limited_too(tmp_path):
    async with bench(tmp_path, MAX_IMAGE_FILE_SIZE="10000") as made:
        made.inference.capabilities = {"models": []}
        made.inference.always(events(completed(picture() + bytes(20_000))))
        image = await made.final(await made.order())

        assert (image.status, image.error.code) == ("failed", "bad_image")


async def test_requests_by_bus_have_a_limit_for_each_owner(tmp_path):
    async with bench(tmp_path, PUBLISHER_REQUESTS_PER_HOUR="2") as made:
        letters: asyncio.Queue = asyncio.Queue()

        async def order(source: str, owner: str) -> GenerateImage:
            now = made.clock.now()
            request = GenerationRequest(prompt="a lighthouse", width=64, height=64)
            command = GenerateImage(id=new_image_id(now), source=source, time=now, owner=owner, data=request)
            await made.bus.send(command)
            await made.bus.send(command)  # a duplicate counts once
            return command

        async def fail_dead_letter(letter):
            await letters.put(letter)
            await asyncio.Event().wait()

        async with made.bus.consume(WorkQueue.DEAD, fail_dead_letter, concurrency=2):
            taken = [await order("newsletter", "ada"), await order("calendar", "ada"), await order("newsletter", "bob")]
            for command in taken:
                assert (await made.final(command.id)).status == "completed"
            refused = await order("a third name", "ada")  # a publisher may call itself anything
            letter = await asyncio.wait_for(letters.get(), 30)

        assert letter.reason.startswith("hourly_limit: ")
        assert json.loads(letter.body)["id"] == refused.id
        assert await made.store.get(refused.id) is None


async def test_an_order_with_an_invalid_owner_is_dead_lettered(tmp_path):
    async with bench(tmp_path) as made:
        letters: asyncio.Queue = asyncio.Queue()

        async def fail_dead_letter(letter):
            await letters.put(letter)
            await asyncio.Event().wait()

        async with made.bus.consume(WorkQueue.DEAD, fail_dead_letter, concurrency=1):
            now = made.clock.now()
            data = GenerationRequest(prompt="a lighthouse")
            await made.bus.send(GenerateImage(id=new_image_id(now), source="x", time=now, owner="a\x00", data=data))
            letter = await asyncio.wait_for(letters.get(), 30)

        assert letter.reason.startswith("invalid_owner")
