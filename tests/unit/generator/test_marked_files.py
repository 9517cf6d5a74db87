"""The files that a generator stores: the pixels that the inference service sent, with the marks of their origin."""

from io import BytesIO

import pytest
from PIL import Image

from common.provenance.marks import mark_copy
from common.provenance.parameters import text_of
from common.provenance.xmp import is_marked
from tests.inference_double import picture
from tests.unit.generator.test_generate import bench


def opened(content):
    found = Image.open(BytesIO(content))
    found.load()
    return found


@pytest.mark.parametrize("embeds", ["true", "false"])
async def test_stored_files_are_marked(tmp_path, embeds):
    async with bench(tmp_path, EMBED_PARAMETERS=embeds) as made:
        image = await made.final(await made.order(prompt="a cat, asleep"))
        stored = await made.media.get(image.image_file)
        found, thumbnail = opened(stored), opened(await made.media.get(image.thumbnail))

    assert found.tobytes() == opened(picture()).tobytes()
    assert is_marked(found.info["xmp"])
    assert is_marked(thumbnail.info["xmp"])
    assert found.text.get("parameters") == (text_of(image) if embeds == "true" else None)
    assert "parameters" not in thumbnail.text
    assert image.file_size == len(stored)
    assert embeds == "true" or stored == mark_copy(picture())
