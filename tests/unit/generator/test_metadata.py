"""Metadata never decide about a picture's pixels. Each picture is made by `tests/odd_pictures.py`."""

import struct
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from common.domain.errors import BadImage
from common.domain.images import Format
from services.generator.metadata import separate
from services.generator.pictures import check, make_preview
from tests.odd_pictures import (
    BAD,
    SIZE,
    SOUND,
    encoded,
    exif,
    gradient,
    jpeg_with,
    png_chunk,
    png_with,
    srgb,
    webp_with,
)

pytestmark = pytest.mark.border(rule="B3")


def checked(content, thumbnail_format=None, ordered=SIZE):
    return check(content, max_pixels=4_000_000, thumbnail_size=256, thumbnail_format=thumbnail_format, ordered=ordered)


def thumbnail_of(content, thumbnail_format=None, ordered=SIZE):
    return Image.open(BytesIO(checked(content, thumbnail_format, ordered).thumbnail))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("name", SOUND)
def test_metadata_never_refuse_sound_pixels(name):
    content = SOUND[name]()
    before = resident_bytes()

    found = checked(content)

    assert (found.width, found.height) == SIZE
    shown = Image.open(BytesIO(found.thumbnail)).convert("L")
    shades = shown.tobytes()
    assert max(shades[: SIZE[0]]) < 40  # the gradient, not turned
    assert min(shades[-SIZE[0] :]) > 200
    assert resident_bytes() - before < 60_000_000  # nothing of 300 MB was unpacked
    assert make_preview(content, max_bytes=16_000)


@pytest.mark.parametrize("name", BAD)
def test_metadata_never_make_a_picture_sound(name):
    with pytest.raises(BadImage):
        checked(BAD[name]())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_size_and_thumbnail_are_those_that_a_viewer_shows(orientation, order):
    tiff = struct.pack(
        f"{order}2sHIHHHIHHI", b"II" if order == "<" else b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0
    )
    shown = SIZE if orientation < 5 else SIZE[::-1]

    for content in (
        png_with(png_chunk(b"eXIf", tiff)),
        jpeg_with((0xE1, b"Exif\0\0" + tiff)),
        webp_with((b"EXIF", tiff)),
        webp_with((b"EXIF", b"Exif\0\0" + tiff)),
    ):
        found = checked(content, ordered=shown)

        assert (found.width, found.height) == shown
        assert Image.open(BytesIO(found.thumbnail)).size == shown
        with pytest.raises(BadImage, match="were ordered"):
            checked(content, ordered=(shown[0] + 8, shown[1]))


def test_an_orientation_outside_of_exif_is_not_applied():
    xmp = b'<x:xmpmeta xmlns:tiff="t"><rdf tiff:Orientation="6"/></x:xmpmeta>'

    for content in (
        png_with(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
        jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)),
        webp_with((b"XMP ", xmp)),
    ):
        assert (checked(content).width, checked(content).height) == SIZE


def test_a_picture_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(BadImage, match="has 64 × 48 pixels, but 640 × 480 were ordered"):
        checked(encoded(), ordered=(640, 480))


def swapped_profile() -> bytes:
    """An RGB profile whose red is sRGB's blue: the names of two of its tags are exchanged."""
    return srgb().replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("thumbnail_format", list(Format))
def test_the_profile_is_applied_to_the_thumbnail(image_format, thumbnail_format):
    content = encoded(image_format, Image.new("RGB", SIZE, (220, 30, 30)), icc_profile=swapped_profile())

    thumbnail = thumbnail_of(content, thumbnail_format)

    red, _, blue = thumbnail.convert("RGB").getpixel((9, 9))
    assert blue > 150 > red
    assert thumbnail.info.get("icc_profile") is None


def test_the_profile_keeps_transparency():
    picture = Image.new("RGBA", SIZE, (220, 30, 30, 128))

    red, _, blue, opacity = thumbnail_of(encoded("PNG", picture, icc_profile=swapped_profile())).getpixel((9, 9))

    assert blue > 150 > red
    assert opacity == 128


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "1", "P"])
def test_a_profile_of_other_colours_is_ignored(mode):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()

    assert thumbnail_of(encoded("PNG", gradient(mode=mode), icc_profile=lab)).size == SIZE


def _transparent_left(mode: str, key: bytes, left, right) -> bytes:
    """A PNG whose left half has the colour that its tRNS chunk makes transparent."""
    picture = Image.new(mode, SIZE, right)
    picture.paste(left, (0, 0, SIZE[0] // 2, SIZE[1]))
    return png_with(png_chunk(b"tRNS", key), png=encoded("PNG", picture))


def _sixteen_bits() -> bytes:
    """The right half differs from the transparent value in its lower byte only."""
    row = b"\x34\x12" * (SIZE[0] // 2) + b"\x35\x12" * (SIZE[0] // 2)
    picture = Image.frombytes("I;16", SIZE, row * SIZE[1])
    return png_with(png_chunk(b"tRNS", b"\x12\x34"), png=encoded("PNG", picture))


def _palette() -> bytes:
    picture = Image.new("P", SIZE, 1)
    picture.putpalette([10, 10, 10, 200, 200, 200])
    picture.paste(0, (0, 0, SIZE[0] // 2, SIZE[1]))
    return encoded("PNG", picture, transparency=b"\0\xff")


TRANSPARENT = {
    "1 bit": lambda: _transparent_left("1", b"\0\0", 0, 1),
    "8 bits of grey": lambda: _transparent_left("L", b"\0\x0a", 10, 200),
    "16 bits of grey": _sixteen_bits,
    "RGB": lambda: _transparent_left("RGB", b"\0\x0a\0\x14\0\x1e", (10, 20, 30), (200, 20, 30)),
    "palette": _palette,
    "alpha": lambda: encoded("PNG", Image.composite(Image.new("RGBA", SIZE), gradient(mode="RGBA"), _left())),
}


def _left() -> Image.Image:
    mask = Image.new("L", SIZE, 0)
    mask.paste(255, (0, 0, SIZE[0] // 2, SIZE[1]))
    return mask


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_of_every_kind_is_kept_or_shown_on_white(kind):
    content = TRANSPARENT[kind]()

    for thumbnail_format in (Format.PNG, Format.WEBP):
        opacity = thumbnail_of(content, thumbnail_format).convert("RGBA").getchannel("A")
        assert (opacity.getpixel((5, 9)), opacity.getpixel((60, 9))) == (0, 255)
    on_white = thumbnail_of(content, Format.JPEG).convert("RGB")
    assert min(on_white.getpixel((5, 9))) > 250


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_transparency_of_few_bits_is_read_in_these_bits(bits):
    """Pillow writes grey in 8 bits or 1, so the PNG is made by hand: its left half has the largest value."""
    import zlib

    top = (1 << bits) - 1
    half = (b"\xff" * (SIZE[0] // 2 * bits // 8)) + bytes(SIZE[0] // 2 * bits // 8)
    header = struct.pack(">IIBBBBB", *SIZE, bits, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + half) * SIZE[1])
    content = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"tRNS", struct.pack(">H", top))
        + png_chunk(b"IDAT", rows)
        + png_chunk(b"IEND", b"")
    )

    opacity = thumbnail_of(content, Format.PNG).convert("RGBA").getchannel("A")

    assert (opacity.getpixel((5, 9)), opacity.getpixel((60, 9))) == (0, 255)


def test_a_picture_of_1_bit_has_a_smooth_thumbnail():
    chequered = Image.new("1", (1024, 1024))
    chequered.putdata([(x + y) % 2 for y in range(1024) for x in range(1024)])

    shades = thumbnail_of(encoded("PNG", chequered), ordered=(1024, 1024)).convert("L")

    assert 100 < shades.getpixel((100, 100)) < 155


def test_cmyk_has_a_thumbnail_in_rgb():
    thumbnail = thumbnail_of(encoded("JPEG", Image.new("CMYK", SIZE, (0, 255, 255, 0))))

    assert thumbnail.mode == "RGB"
    assert thumbnail.getpixel((9, 9))[0] > 200


def test_nothing_of_the_metadata_is_left_in_the_pixels():
    marked = b"taken at home"

    for content in (
        png_with(png_chunk(b"tEXt", b"Comment\0" + marked)),
        jpeg_with((0xFE, marked), (0xE1, b"Exif\0\0" + exif() + marked)),
        webp_with((b"EXIF", exif() + marked), (b"XMP ", marked)),
    ):
        assert marked in content
        assert marked not in separate(content).pixels
        assert marked not in checked(content).thumbnail
