"""What came back, as a picture: checked in full, and made small. Pillow in a worker thread; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from common.domain.errors import BadImage
from common.domain.images import Format

Pillow.MAX_IMAGE_PIXELS = None  # its warning comes late and its limit is global; ours is checked before decoding
# Memory of pictures done is used again (Pillow's "block allocator"): fresh pages cost 2 of the 12 ms of a JPEG of a
# megapixel. A block holds at most 16 MiB, and what the picture took.
Pillow.core.set_blocks_max(4)  # type: ignore[attr-defined]  # documented, but not in its types

_READ: Final = tuple(each.name for each in Format)
_QUALITY: Final = 85
_PREVIEW_SIDES: Final = (256, 128)  # pixels; the second for what is too noisy to be small in the first
_PREVIEW_QUALITY: Final = 50  # shown soft, for a second: 3-8 kB, and 4 ms to make
_MAX_PREVIEW_PIXELS: Final = 2048 * 2048  # 17 MB decoded, twice; services show a picture at its size at most
# what a thumbnail can be saved from in each format; other modes are brought to RGB or RGBA first
_MODES: Final = {
    Format.PNG: frozenset({"1", "L", "LA", "RGB", "RGBA"}),
    Format.JPEG: frozenset({"L", "RGB"}),
    Format.WEBP: frozenset({"RGB", "RGBA"}),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A picture that decodes to its last row, and its thumbnail; sizes in pixels."""

    format: Format
    width: int
    height: int
    thumbnail: bytes
    thumbnail_format: Format


def check(content: bytes, *, max_pixels: int, thumbnail_size: int, thumbnail_format: Format | None) -> Checked:
    """Decode all of it and make the thumbnail: within a square of `thumbnail_size`, its aspect kept.

    Burns 30-150 ms of one core for a megapixel, most of it with the GIL released: run it in a thread.

    Raises:
        BadImage: it is no PNG, JPEG or WEBP, has too many pixels, moves, or breaks off.
    """
    with _decoded(content, max_pixels) as (picture, picture_format):
        small_format = thumbnail_format or picture_format
        thumbnail = _small(picture, thumbnail_size, small_format, quality=_QUALITY)
        return Checked(picture_format, picture.width, picture.height, thumbnail, small_format)


def preview_of(content: bytes, *, max_bytes: int) -> bytes:
    """A picture in work, decoded and made anew as a WEBP of at most `max_bytes`, within a square of 256 pixels.

    Burns some 5 ms of one core, and 100 where it comes in the size of a picture: run it in a thread.

    Raises:
        BadImage: as by `check`, or what it shows is too much for `max_bytes`.
    """
    with _decoded(content, _MAX_PREVIEW_PIXELS) as (picture, _):
        for side in _PREVIEW_SIDES:
            small = _small(picture, side, Format.WEBP, quality=_PREVIEW_QUALITY)
            if len(small) <= max_bytes:
                return small
    raise BadImage(f"it takes {len(small)} bytes, more than {max_bytes}")


@contextmanager
def _decoded(content: bytes, max_pixels: int) -> Iterator[tuple[Pillow.Image, Format]]:
    """The picture with all its pixels; whatever is wrong with it, here or while it is used, is a BadImage."""
    try:
        _verify(content)
        with Pillow.open(BytesIO(content), formats=_READ) as picture:
            picture_format = _require_usable(picture, max_pixels)
            picture.load()
            yield picture, picture_format
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"what came is no PNG, JPEG or WEBP: it begins with {content[:12]!r}") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, Warning) as error:
        raise BadImage(f"the picture does not decode: {error}") from error


def _verify(content: bytes) -> None:
    # decoding passes over checksums of PNG that verifying reads; it needs an object of its own (Pillow, Image.verify)
    if content.startswith(b"\x89PNG"):
        with Pillow.open(BytesIO(content), formats=("PNG",)) as picture:
            picture.verify()


def _require_usable(picture: Pillow.Image, max_pixels: int) -> Format:
    """Look at the header only: nothing is decoded yet, so a bomb costs nothing."""
    if picture.width * picture.height > max_pixels:
        raise BadImage(f"{picture.width} × {picture.height} pixels are more than {max_pixels}")
    if getattr(picture, "is_animated", False):
        raise BadImage("it is animated, which a picture is not")
    return Format[picture.format or ""]


def _small(picture: Pillow.Image, size: int, image_format: Format, *, quality: int) -> bytes:
    small = picture.copy()
    if small.mode.startswith("I;16") or small.mode == "I":
        small = small.point(lambda value: value / 256).convert("L")  # 16 bits to 8, not clipped at 255
    elif small.mode in {"P", "PA"}:
        small = small.convert("RGBA")  # a palette cannot be resampled
    small.thumbnail((size, size), Pillow.Resampling.LANCZOS)
    small = ImageOps.exif_transpose(small)
    if small.mode not in _MODES[image_format]:
        with_alpha = "A" in small.getbands() and image_format is not Format.JPEG
        small = small.convert("RGBA" if with_alpha else "RGB")
    out = BytesIO()
    # a copy of the pixels only: no EXIF, no profile, no text of the original goes along
    small.info.clear()
    small.save(out, format=image_format.name, optimize=True, quality=quality)
    return out.getvalue()
