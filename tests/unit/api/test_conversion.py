"""Conversion of stored pictures into the format of an answer."""

from io import BytesIO

import pytest
from PIL import Image

from common.domain.errors import Invalid
from common.domain.images import Format
from common.provenance.marks import Marker
from common.provenance.xmp import is_marked
from services.api.conversion import PictureConverter, is_needed
from tests.making import an_image

SIZE = (40, 20)


def saved(picture, image_format, **more) -> bytes:
    out = BytesIO()
    picture.save(out, image_format, **more)
    return out.getvalue()


@pytest.fixture
def convert():
    converter = PictureConverter(max_pixels=10_000)

    async def convert(content, wanted, quality=None):
        found = Image.open(BytesIO(await converter.convert(content, wanted, quality=quality)))
        found.load()
        return found

    return convert


@pytest.mark.parametrize("wanted", Format)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
async def test_every_mode_of_a_png_is_converted(convert, mode, wanted):
    found = await convert(saved(Image.new(mode, SIZE), "PNG"), wanted)

    assert (found.format, found.size) == (wanted.name, SIZE)


async def test_a_cmyk_picture_is_converted(convert):
    found = await convert(saved(Image.new("CMYK", SIZE), "JPEG"), Format.PNG)

    assert (found.mode, found.size) == ("RGB", SIZE)


async def test_transparency_stays_or_becomes_white(convert):
    content = saved(Image.new("RGBA", SIZE, (0, 0, 0, 0)), "PNG")

    assert (await convert(content, Format.WEBP)).getpixel((0, 0))[3] == 0
    assert (await convert(content, Format.JPEG)).getpixel((0, 0)) == (255, 255, 255)


async def test_a_picture_stays_as_its_viewer_shows_it(convert):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned on its side

    found = await convert(saved(Image.new("RGB", SIZE), "JPEG", exif=exif), Format.PNG)

    assert found.size == SIZE[::-1]


@pytest.mark.parametrize("quality", [0, 50, 100])
async def test_every_quality_is_accepted(convert, quality):
    for wanted in Format:
        assert (await convert(saved(Image.new("RGB", SIZE), "PNG"), wanted, quality)).size == SIZE


async def test_a_picture_that_is_too_large_is_not_decoded(convert):
    with pytest.raises(Invalid, match="200 × 100"):
        await convert(saved(Image.new("1", (200, 100)), "PNG"), Format.JPEG)


@pytest.mark.parametrize(
    ("stored", "wanted", "quality", "needed"),
    [
        (Format.PNG, Format.PNG, None, False),
        (Format.PNG, Format.PNG, 50, False),
        (Format.JPEG, Format.JPEG, None, False),
        (Format.JPEG, Format.JPEG, 50, True),
        (Format.PNG, Format.WEBP, None, True),
    ],
)
def test_a_picture_is_converted_only_if_it_must_be(stored, wanted, quality, needed):
    assert is_needed(stored, wanted, quality) is needed


@pytest.mark.parametrize(("size", "wanted"), [((100, 50), (40, 20)), ((40, 90), (40, 90)), ((30, 30), (30, 30))])
async def test_a_rendition_is_never_enlarged(size, wanted):
    content = saved(Image.new("RGB", size), "PNG")

    async def read():
        return content

    shrunk = await PictureConverter(max_pixels=10_000).shrink(read, 40)

    assert shrunk
    found = Image.open(BytesIO(shrunk))
    assert (found.format, found.size) == ("WEBP", wanted)


async def test_a_lost_picture_has_no_rendition():
    async def read():
        return None

    assert await PictureConverter(max_pixels=10_000).shrink(read, 40) is None


@pytest.mark.parametrize("wanted", Format)
async def test_a_copy_says_that_it_was_generated(wanted):
    stored = Marker(embeds_parameters=True, max_bytes=10_000).mark(saved(Image.new("RGB", SIZE), "PNG"), an_image())
    converter = PictureConverter(max_pixels=10_000)

    async def read():
        return stored

    for copy in (await converter.convert(stored, wanted), await converter.shrink(read, 16)):
        assert copy
        assert is_marked(Image.open(BytesIO(copy)).info["xmp"])
        assert b"Steps: 4, Sampler: Euler" in copy.replace(b"\0", b"")
