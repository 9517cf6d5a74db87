"""Which answers are accepted as a picture."""

import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from common.domain.errors import BadImage
from common.domain.images import Format
from services.generator.pictures import check

MAX_PIXELS = 4_000_000


def checked(content, thumbnail_format=None):
    return check(content, max_pixels=MAX_PIXELS, thumbnail_size=256, thumbnail_format=thumbnail_format)


def encoded(image_format="PNG", size=(640, 320), mode="RGB", **options):
    out = BytesIO()
    source = Image.linear_gradient("L").resize(size)
    source.convert(mode).save(out, image_format, **options)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height, bit_depth=1):
    header = struct.pack(">IIBBBBB", width, height, bit_depth, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_check_returns_size_and_a_thumbnail_of_the_same_format(image_format):
    found = checked(encoded(image_format))

    assert (found.format.name, found.width, found.height) == (image_format, 640, 320)
    with Image.open(BytesIO(found.thumbnail)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == (image_format, (256, 128))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("thumbnail_format", [None, Format.JPEG, Format.WEBP])
def test_every_png_mode_has_a_thumbnail(mode, thumbnail_format):
    found = checked(encoded(mode=mode), thumbnail_format)

    with Image.open(BytesIO(found.thumbnail)) as thumbnail:
        assert thumbnail.size == (256, 128)


def test_sixteen_bits_keep_their_shades_in_the_thumbnail():
    out = BytesIO()
    Image.linear_gradient("L").convert("I").point(lambda value: value * 256).convert("I;16").save(out, "PNG")

    with Image.open(BytesIO(checked(out.getvalue()).thumbnail)) as thumbnail:
        shades = thumbnail.convert("L").tobytes()

    assert min(shades) < 10
    assert max(shades) > 245


def test_a_thumbnail_holds_only_the_pixels_of_the_original():
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    found = checked(encoded("JPEG", exif=exif.tobytes()))

    assert b"taken at home" not in found.thumbnail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>busy</html>",
        b"GIF89a" + bytes(50),
        encoded()[:-200],
        encoded("JPEG")[:500],
        encoded("WEBP")[:100],
        encoded()[:300] + bytes([encoded()[300] ^ 255]) + encoded()[301:],
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["empty", "html", "gif", "cut png", "cut jpeg", "cut webp", "flipped bit", "header only"],
)
def test_an_undecodable_picture_is_refused(content):
    with pytest.raises(BadImage):
        checked(content)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (13_000, 13_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.fault(row=34)
def test_a_decompression_bomb_is_refused_by_its_header(width, height):
    with pytest.raises(BadImage, match="pixels"):
        checked(png_bomb(width, height))


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
@pytest.mark.fault(row=39)
def test_an_animation_is_refused(image_format):
    out = BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(out, image_format, save_all=True, append_images=frames[1:])

    with pytest.raises(BadImage, match="animated"):
        checked(out.getvalue())


def test_the_memory_of_pictures_is_used_again():
    def decode_eight_at_once():
        return len([Image.new("RGB", (1024, 1024), "red") for _ in range(8)])

    allocator: Any = Image.core  # type: ignore[attr-defined]  # documented, but missing in its types
    decode_eight_at_once()
    allocator.reset_stats()
    decode_eight_at_once()
    stats = allocator.get_stats()

    assert (stats["allocated_blocks"], stats["freed_blocks"]) == (0, 0)
    assert stats["reused_blocks"] > 8  # of one size, and so none is resized
    assert stats["reallocated_blocks"] <= 8  # the last of each picture is smaller
