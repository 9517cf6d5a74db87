"""Renditions: made once, stored beside the picture, gone with it."""

from io import BytesIO

import pytest
from PIL import Image

from common.domain import images, transitions
from common.domain.errors import Unavailable
from common.messages import TickData
from services.api.conversion import PictureConverter
from services.api.renditions import Renditions
from services.janitor.purge import purge
from services.janitor.sweep import sweep
from tests.inference_double import picture
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster

YEARS_S = 10 * 365 * 86_400  # files have the date of today, the clock of these tests is in 2025


@pytest.fixture
async def context(tmp_path):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        yield context


@pytest.fixture
def renditions(context):
    return Renditions(context.store, context.media, PictureConverter(max_pixels=10_000_000))


async def a_large_image(context):
    image = await a_completed_image(context)
    await context.media.put(image.image_file, picture(size=(1500, 1000)))
    return image


async def stored(context) -> set[str]:
    return {file.key async for page in context.media.walk() for file in page}


async def test_a_rendition_is_made_and_stored(context, renditions):
    image = await a_large_image(context)
    small, large = images.rendition_keys(image)

    content = await renditions.make(image, small)
    await renditions.make(image, large)

    assert Image.open(BytesIO(content)).size == (512, 341)
    assert await context.media.get(small) == content
    assert Image.open(BytesIO(await context.media.get(large))).size == (1024, 683)
    assert {images.picture_key_of(key) for key in (small, large, image.image_file)} == {image.image_file}


async def test_renditions_are_removed_by_a_purge(context, renditions):
    image = await a_large_image(context)
    for key in images.rendition_keys(image):
        await renditions.make(image, key)
    assert len(await stored(context)) == 4
    context.clock.advance(100)

    await purge(TickData(older_than=1), context=context)

    assert await stored(context) == set()


async def test_a_sweep_keeps_renditions_of_images_only(context, renditions):
    kept, gone = await a_large_image(context), await a_large_image(context)
    for image in (kept, gone):
        for key in images.rendition_keys(image):
            await renditions.make(image, key)
    await context.store.remove(gone)
    context.clock.advance(YEARS_S)

    await sweep(NOTHING, context=context)

    assert await stored(context) == {kept.image_file, kept.thumbnail, *images.rendition_keys(kept)}


async def test_a_delete_while_it_is_made_leaves_no_file(context, renditions):
    image = await a_large_image(context)
    key = images.rendition_keys(image)[0]
    await context.store.replace(transitions.delete(image, now=context.clock.now()))
    await context.media.remove(images.media_keys(image))
    read, context.media.get = context.media.get, None

    async def late(asked):
        return picture(size=(600, 600))  # was read before the delete

    context.media.get = late
    assert await renditions.make(image, key) is None
    context.media.get = read
    assert await stored(context) == set()


async def test_a_full_disk_still_shows_the_rendition(context, renditions, monkeypatch):
    image = await a_large_image(context)

    async def full(key, content):
        raise Unavailable("media", "No space left on device")

    monkeypatch.setattr(context.media, "put", full)

    assert await renditions.make(image, images.rendition_keys(image)[0])
