"""Marks in the files of pictures; Pillow reads them back, as an independent reader of the containers."""

import io
import random
import zlib
from collections.abc import Callable
from functools import partial

import pytest
from PIL import ExifTags, Image

from common.domain.images import Format
from common.provenance.marks import Marker, mark_copy
from common.provenance.parameters import text_of
from common.provenance.xmp import PACKET, TRAINED, is_marked
from services.generator.metadata import separate
from tests.making import an_image
from tests.odd_pictures import SIZE, SOUND, encoded, gradient, jpeg_with, png_chunk, png_with, srgb, webp_with

MARKER = Marker(embeds_parameters=True, max_bytes=100_000_000)
WITHOUT = Marker(embeds_parameters=False, max_bytes=10_000_000)
TEXT = text_of(an_image())
XMP = b"http://ns.adobe.com/xap/1.0/\0"
FOREIGN = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="a" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="elsewhere"%s/>'
    "</rdf:RDF></x:xmpmeta>"
)
CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
IPTC = ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType="%s"'


def opened(content):
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def pixels(content):
    """What a program sees of the picture, but not its texts."""
    picture = opened(content)
    info = {name: picture.info.get(name) for name in ("icc_profile", "transparency", "gamma")}
    orientation = picture.getexif().get(ExifTags.Base.Orientation)
    return picture.format, picture.mode, picture.size, picture.getpalette(), picture.tobytes(), info, orientation


def xmp_of(content):
    return opened(content).info.get("xmp") or b""


def parameters_of(content):
    """As A1111 reads them."""
    picture = opened(content)
    if picture.format == "PNG":
        return picture.text.get("parameters")
    comment = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    return comment and comment.removeprefix(b"UNICODE\0").decode("utf-16-be")


def _sixteen_bits():
    return Image.frombytes("I;16", SIZE, bytes(range(256)) * (SIZE[0] * SIZE[1] * 2 // 256))


def turned(orientation=6):
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = orientation
    data[ExifTags.Base.Artist] = "somebody"
    data.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = "a lens"
    return data


KINDS: dict[str, Callable[[], bytes]] = {
    **{f"png {mode}": partial(encoded, "PNG", gradient(mode=mode)) for mode in ("1", "L", "LA", "P", "RGBA")},
    "png of 16 bits": lambda: encoded("PNG", _sixteen_bits()),
    "png, palette with opacity": lambda: encoded("PNG", gradient(mode="P"), transparency=bytes(range(256))),
    "png, profile, turned": lambda: encoded("PNG", icc_profile=srgb(), exif=turned(), dpi=(72, 72)),
    **{f"jpeg {mode}": partial(encoded, "JPEG", gradient(mode=mode)) for mode in ("L", "RGB", "CMYK")},
    "jpeg, progressive": lambda: encoded("JPEG", progressive=True),
    **{f"jpeg, turned {n}": partial(encoded, "JPEG", icc_profile=srgb(), exif=turned(n)) for n in range(1, 9)},
    "webp, lossy": lambda: encoded("WEBP"),
    "webp, lossless": lambda: encoded("WEBP", lossless=True),
    "webp, alpha": lambda: encoded("WEBP", gradient(mode="RGBA").rotate(9)),
    "webp, lossless alpha": lambda: encoded("WEBP", gradient(mode="RGBA").rotate(9), lossless=True),
    "webp, profile, turned": lambda: encoded("WEBP", icc_profile=srgb(), exif=turned()),
    "webp, odd size": lambda: encoded("WEBP", gradient((63, 1))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_marks_change_no_pixel(kind):
    content = KINDS[kind]()

    marked = MARKER.mark(content, an_image())

    assert pixels(marked) == pixels(content)
    assert is_marked(xmp_of(marked))
    assert parameters_of(marked) == TEXT
    assert WITHOUT.mark(content, an_image()) == mark_copy(content)
    assert parameters_of(mark_copy(content)) is None
    assert MARKER.mark(marked, an_image()) == marked


@pytest.mark.border(rule="B3")
@pytest.mark.parametrize("name", [name for name in SOUND if "300 MB" not in name])  # a second each to make
def test_odd_metadata_do_not_prevent_the_mark(name):
    content = SOUND[name]()

    marked = MARKER.mark(content, an_image())

    assert PACKET in marked
    before, after = opened(separate(content).pixels), opened(separate(marked).pixels)
    assert (before.mode, before.tobytes()) == (after.mode, after.tobytes())
    assert separate(marked).orientation == separate(content).orientation


@pytest.mark.border(rule="B3")
def test_damaged_files_never_raise():
    drawn = random.Random(7)
    sources = [MARKER.mark(KINDS[kind](), an_image()) for kind in ("png P", "jpeg, turned 6", "webp, profile, turned")]
    for number in range(1500):
        damaged = bytearray(sources[number % 3])
        for _ in range(drawn.randint(1, 6)):
            damaged[drawn.randrange(min(len(damaged), 900))] = drawn.randrange(256)
        content = bytes(damaged[: drawn.choice([len(damaged), drawn.randrange(len(damaged))])])

        marked = MARKER.mark(content, an_image())

        if separate(marked).pixels != separate(content).pixels:
            assert marked[12:16] == b"VP8X"  # the header of an extended WEBP


def with_xmp(image_format, packet):
    return {
        "PNG": lambda: png_with(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)),
        "JPEG": lambda: jpeg_with((0xE1, XMP + packet)),
        "WEBP": lambda: webp_with((b"XMP ", packet)),
    }[image_format]()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("more", ["", IPTC % CAPTURED, IPTC % TRAINED])
def test_foreign_xmp_is_kept_in_one_packet(image_format, more):
    content = with_xmp(image_format, (FOREIGN % more).encode())

    marked = WITHOUT.mark(content, an_image())

    assert is_marked(xmp_of(marked))
    assert b'dc:source="elsewhere"' in xmp_of(marked)
    assert marked.count(b"<x:xmpmeta") == 1
    assert opened(marked).tobytes() == opened(content).tobytes()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("packet", [b"<x:xmpmeta", b"\xff" * 99, b"<!DOCTYPE a><a/>"])
def test_an_xmp_that_cannot_be_changed_stays_beside_ours(image_format, packet):
    marked = WITHOUT.mark(with_xmp(image_format, packet), an_image())

    assert packet in marked
    assert TRAINED.encode() in marked
    assert is_marked(xmp_of(marked)) or image_format != "WEBP"  # of PNG and JPEG Pillow shows the last packet
    assert marked.index(TRAINED.encode()) < marked.rindex(packet)
    assert WITHOUT.mark(marked, an_image()) == marked


def test_a_packet_that_would_not_fit_into_a_segment_stays():
    packet = (FOREIGN % "").encode() + b" " * 65_200

    marked = WITHOUT.mark(with_xmp("JPEG", packet), an_image())

    assert marked.index(PACKET) < marked.index(packet)


def test_a_packed_text_is_unpacked_within_limits():
    packed = zlib.compress(bytes(30_000_000))
    content = png_with(
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed), png_chunk(b"zTXt", b"parameters\0\0" + packed)
    )

    marked = MARKER.mark(content, an_image())

    assert PACKET in marked
    assert TEXT.encode() in marked


def signed_pictures():
    box = b"JP\0\1\0\0\0\1\0\0\1\0jumb\0\0\0\x25jumdc2pa\0\x11\0\x10\x80\0\0\xaa\x008\x9bq\3c2pa\0"
    remote = FOREIGN % ' xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="https://example.org/m.c2pa"'
    yield png_with(png_chunk(b"caBX", b"jumb"))
    yield jpeg_with((0xEB, box))
    yield webp_with((b"C2PA", b"jumb"), flags=0)
    yield from (with_xmp(image_format, remote.encode()) for image_format in ("PNG", "JPEG", "WEBP"))


def test_a_picture_with_a_manifest_is_kept_byte_for_byte():
    for content in signed_pictures():
        assert MARKER.mark(content, an_image()) is content


def test_settings_that_are_there_are_kept():
    for content in (
        png_with(png_chunk(b"tEXt", b"parameters\0theirs\nSteps: 1")),
        png_with(png_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"theirs\nSteps: 1"))),
        MARKER.mark(encoded("JPEG"), an_image(prompt="theirs")),
        MARKER.mark(encoded("WEBP"), an_image(prompt="theirs")),
    ):
        assert parameters_of(MARKER.mark(content, an_image())).startswith("theirs")


def test_foreign_exif_is_kept():
    for image_format in ("JPEG", "WEBP"):
        found = opened(MARKER.mark(encoded(image_format, exif=turned()), an_image())).getexif()

        assert (found[ExifTags.Base.Orientation], found[ExifTags.Base.Artist]) == (6, "somebody")
        assert found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] == "a lens"


def test_a_mark_that_makes_the_file_too_large_is_left_out(caplog):
    content = encoded()
    long = an_image(prompt="x" * 4000)

    marked = Marker(embeds_parameters=True, max_bytes=len(content) + 2000).mark(content, long)

    assert is_marked(xmp_of(marked))
    assert parameters_of(marked) is None
    assert Marker(embeds_parameters=True, max_bytes=len(content)).mark(content, long) == content
    assert "more than" in caplog.text


@pytest.mark.parametrize("image_format", Format)
def test_the_longest_prompts_fit(image_format):
    image = an_image(prompt="🏮" * 4000, negative_prompt="é" * 4000)

    assert parameters_of(MARKER.mark(encoded(image_format.name), image)) == text_of(image)


@pytest.mark.parametrize("image_format", Format)
def test_a_copy_has_the_settings_of_its_original(image_format):
    for original in Format:
        content = MARKER.mark(encoded(original.name), an_image())

        copy = mark_copy(encoded(image_format.name), content)

        assert parameters_of(copy) == TEXT
        assert is_marked(xmp_of(copy))
    assert mark_copy(b"GIF89a") == b"GIF89a"
