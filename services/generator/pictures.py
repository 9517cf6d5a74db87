"""Checks and thumbnails of the pictures that an inference service returns.

Pillow, to be run in a worker thread; nothing is written here.
"""

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

Pillow.MAX_IMAGE_PIXELS = None  # its warning comes late and its limit is global; our limit is checked before decoding
# Pillow's block allocator reuses the memory of earlier pictures: fresh pages cost 2 of the 12 ms of a JPEG of one
# megapixel. A block holds at most 16 MiB, plus the size of the picture.
Pillow.core.set_blocks_max(4)  # type: ignore[attr-defined]  # documented, but missing in its types

_READABLE: Final = tuple(each.name for each in Format)
_QUALITY: Final = 85
_PREVIEW_SIDES: Final = (256, 128)  # pixels; the second is for pictures too noisy to fit in the first
_PREVIEW_QUALITY: Final = 50  # shown blurred, for a second: 3-8 kB, 4 ms to make
_MAX_PREVIEW_PIXELS: Final = (
    2048 * 2048
)  # 17 MB decoded, held twice; services send previews of at most the size of the picture
# modes from which each format can be saved; other modes are converted to RGB or RGBA first
_MODES: Final = {
    Format.PNG: frozenset({"1", "L", "LA", "RGB", "RGBA"}),
    Format.JPEG: frozenset({"L", "RGB"}),
    Format.WEBP: frozenset({"RGB", "RGBA"}),
}


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """The properties of a picture that decodes completely, and its thumbnail; sizes in pixels."""

    format: Format
    width: int
    height: int
    thumbnail: bytes
    thumbnail_format: Format


def check(content: bytes, *, max_pixels: int, thumbnail_size: int, thumbnail_format: Format | None) -> CheckedPicture:
    """Decode the picture completely and make its thumbnail, which fits into a square of `thumbnail_size` pixels.

    Takes 30-150 ms of one core for a megapixel, most of it with the GIL released: run it in a thread.

    Raises:
        BadImage: it is not a PNG, JPEG or WEBP, has too many pixels, is animated, or is truncated.
    """
    with _decoded(content, max_pixels) as (picture, picture_format):
        small_format = thumbnail_format or picture_format
        thumbnail = _shrink(picture, thumbnail_size, small_format, quality=_QUALITY)
        return CheckedPicture(picture_format, picture.width, picture.height, thumbnail, small_format)


def make_preview(content: bytes, *, max_bytes: int) -> bytes:
    """Decode an unfinished picture and encode it as a WEBP of at most `max_bytes`, within a square of 256 pixels.

    Takes about 5 ms of one core, and 100 ms for a preview in full size: run it in a thread.

    Raises:
        BadImage: as `check` raises it, or the preview does not fit into `max_bytes`.
    """
    with _decoded(content, _MAX_PREVIEW_PIXELS) as (picture, _):
        for side in _PREVIEW_SIDES:
            small = _shrink(picture, side, Format.WEBP, quality=_PREVIEW_QUALITY)
            if len(small) <= max_bytes:
                return small
    raise BadImage(f"the preview takes {len(small)} bytes, more than {max_bytes}")


@contextmanager
def _decoded(content: bytes, max_pixels: int) -> Iterator[tuple[Pillow.Image, Format]]:
    """The decoded picture; every error of it, here or in the body of the `with`, becomes a BadImage."""
    try:
        _verify(content)
        with Pillow.open(BytesIO(content), formats=_READABLE) as picture:
            picture_format = _require_usable(picture, max_pixels)
            picture.load()
            yield picture, picture_format
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"the answer is not a PNG, JPEG or WEBP picture: it starts with {content[:12]!r}") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, Warning) as error:
        raise BadImage(f"the picture cannot be decoded: {error}") from error


def _verify(content: bytes) -> None:
    # decoding ignores checksums of PNG that verify() checks; verify() needs an object of its own (Pillow, Image.verify)
    if content.startswith(b"\x89PNG"):
        with Pillow.open(BytesIO(content), formats=("PNG",)) as picture:
            picture.verify()


def _require_usable(picture: Pillow.Image, max_pixels: int) -> Format:
    """Check the header only: nothing is decoded yet, so a decompression bomb costs nothing."""
    if picture.width * picture.height > max_pixels:
        raise BadImage(f"the picture has {picture.width} × {picture.height} pixels, more than {max_pixels}")
    if getattr(picture, "is_animated", False):
        raise BadImage("the picture is animated; only still pictures are accepted")
    return Format[picture.format or ""]


def _shrink(picture: Pillow.Image, size: int, image_format: Format, *, quality: int) -> bytes:
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
    # copy the pixels only: no EXIF, no profile and no text of the original
    small.info.clear()
    small.save(out, format=image_format.name, optimize=True, quality=quality)
    return out.getvalue()
