"""Copies without metadata: the same pixels with the mark of the origin; no word of anybody."""

import io
import zlib

import pytest
from PIL import Image, PngImagePlugin

from common.domain.images import Format
from common.provenance.found import Unmarkable
from common.provenance.marks import Marker, bare_copy
from common.provenance.xmp import PACKET, is_marked
from services.generator.metadata import separate
from tests.making import an_image
from tests.odd_pictures import BAD, SOUND, encoded, jpeg_with, png_chunk, png_with, srgb, webp_with
from tests.unit.common.provenance.test_marks import KINDS, MARKER, opened, parameters_of, pixels, turned, xmp_of

PROMPT, SEED = "a secret lighthouse", 3_141_592_653
IMAGE = an_image(prompt=PROMPT, negative_prompt="hidden people").model_copy(
    update={"parameters": an_image().parameters.model_copy(update={"seed": SEED})}
)
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")


def telling(image_format: str) -> bytes:
    """A picture with the prompt in every place that programs write it to, and settings of Darkroom beside."""
    said = f"{PROMPT}, {SEED}"
    data = turned(6)
    data[0x010E] = said
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{said}'
    options = {"exif": data, "icc_profile": srgb()}
    if image_format == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("workflow", said)
        texts.add_text("prompt", said, zip=True)
        texts.add_itxt("Description", said, zip=True)
        texts.add(b"prVt", said.encode(), after_idat=True)
        made = encoded("PNG", pnginfo=texts, **options) + said.encode()
    elif image_format == "JPEG":
        made = encoded("JPEG", comment=said, progressive=True, xmp=xmp.encode(), **options)
        between = b"\xff\xfe" + (len(said) + 2).to_bytes(2, "big") + said.encode()
        second = made.index(b"\xff\xda", made.index(b"\xff\xda") + 2)  # a comment between two scans
        made = made[:second] + between + made[second:] + said.encode()
    else:
        made = encoded("WEBP", lossless=True, xmp=xmp.encode(), **options)
        size = int.from_bytes(made[4:8], "little") + 8 + len(said) + len(said) % 2
        extra = b"TEXT" + len(said).to_bytes(4, "little") + said.encode() + b"\0" * (len(said) % 2)
        made = made[:4] + size.to_bytes(4, "little") + made[8:] + extra + said.encode()
    return MARKER.mark(made, IMAGE)


def words_in(content: bytes) -> set[str]:
    """Those of the secret words that are anywhere in the file, also compressed."""
    places = [content]
    if content.startswith(b"\x89PNG"):
        for start in range(len(content) - 2):
            if content[start] == 0x78 and int.from_bytes(content[start : start + 2], "big") % 31 == 0:
                try:
                    places.append(zlib.decompressobj().decompress(content[start:], 1_000_000))
                except zlib.error:
                    continue
    words = ("lighthouse", "secret", "hidden people", str(SEED), "Steps", "somebody", "a lens")
    return {word for word in words for place in places for encoding in ENCODINGS if word.encode(encoding) in place}


@pytest.mark.parametrize("image_format", Format)
def test_no_word_of_the_prompt_is_left(image_format):
    content = telling(image_format.name)
    assert {"lighthouse", str(SEED), "Steps"} <= words_in(content)

    bare = bare_copy(content)

    assert words_in(bare) == set()
    assert pixels(bare) == pixels(content)
    assert is_marked(xmp_of(bare))
    assert parameters_of(bare) is None
    assert bare_copy(bare) == bare


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_copy_looks_the_same(kind):
    content = MARKER.mark(KINDS[kind](), IMAGE)

    *seen, orientation = pixels(bare_copy(content))

    *expected, turned_by = pixels(content)
    assert seen == expected
    assert (orientation or 1) == (turned_by or 1)


@pytest.mark.parametrize("name", [name for name in SOUND if "300 MB" not in name])
def test_odd_metadata_are_left_out(name):
    content = SOUND[name]()

    bare = bare_copy(content)

    before, after = opened(separate(content).pixels), opened(separate(bare).pixels)
    assert (before.mode, before.tobytes()) == (after.mode, after.tobytes())
    assert separate(bare).orientation == separate(content).orientation
    assert PACKET in bare


@pytest.mark.parametrize(
    "content",
    [
        png_with(png_chunk(b"caBX", b"a manifest")),
        jpeg_with((0xEB, b"JP\0\1\0\0\0\1" + b"jumbjumdc2pa")),
        webp_with((b"C2PA", b"a manifest")),
    ],
    ids=["png", "jpeg", "webp"],
)
def test_a_signed_file_has_no_bare_copy(content):
    with pytest.raises(Unmarkable, match="C2PA manifest"):
        bare_copy(content)


@pytest.mark.parametrize("name", ["nothing", "html", "gif", "png, cut", "jpeg, no scan", "webp, cut", "webp, animated"])
def test_a_file_that_is_not_understood_is_refused(name):
    with pytest.raises(Unmarkable):
        bare_copy(BAD[name]())


def test_a_text_in_a_marker_without_data_is_refused():
    """Decoders step over a restart marker before the scan, with whatever follows it."""
    with pytest.raises(Unmarkable):
        bare_copy(jpeg_with((0xD0, b"a lighthouse in a storm")))


def test_a_jpeg_without_its_end_gets_one():
    content = encoded("JPEG")

    assert bare_copy(content[:-2]) == bare_copy(content)
    assert Image.open(io.BytesIO(bare_copy(content))).format == "JPEG"
    assert Marker(embeds_parameters=False, max_bytes=10**6).mark(bare_copy(content), IMAGE) == bare_copy(content)
