"""Checks of the pictures that an inference service returns.

Pillow, to be run in a worker thread; nothing is written here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from typing import Final

from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from common.domain.errors import BadImage
from common.domain.images import Format, Image
from common.provenance.marks import Marker, mark_copy
from common.runtime.settings import Settings
from services.generator.metadata import Separated, separate
from services.generator.thumbnails import shrink

Pillow.MAX_IMAGE_PIXELS = None  # its warning comes late and its limit is global; our limit is checked before decoding
# Pillow's block allocator reuses the memory of earlier pictures: fresh pages cost 2 of the 12 ms of a JPEG of one
# megapixel. It takes any kept block and resizes it, which needs fresh pages again: with one block for each picture, its
# default, four pictures at once took 690 pages each, with small blocks 100. At most 64 MiB are kept.
_BLOCK_SIZE: Final = 256 * 1024
_KEPT_BLOCKS: Final = 256
Pillow.core.set_block_size(_BLOCK_SIZE)  # type: ignore[attr-defined]  # documented, but missing in its types
Pillow.core.set_blocks_max(_KEPT_BLOCKS)  # type: ignore[attr-defined]
# glibc gives memory back at once if it is larger than the largest that was freed before (mallopt(3), M_MMAP_THRESHOLD).
# With this, the files of pictures reuse memory too; larger blocks of Pillow had the same effect.
bytes(4 * 1024 * 1024)

_READABLE: Final = tuple(each.name for each in Format)
_QUALITY: Final = 85
_PREVIEW_SIDES: Final = (256, 128)  # pixels; the second is for pictures too noisy to fit in the first
_PREVIEW_QUALITY: Final = 50  # shown blurred, for a second: 3-8 kB, 4 ms to make
_MAX_PREVIEW_PIXELS: Final = (
    2048 * 2048
)  # 17 MB decoded, held twice; services send previews of at most the size of the picture


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """The properties of a picture that decodes completely, and its thumbnail; sizes in pixels, as a viewer shows it."""

    format: Format
    width: int
    height: int
    thumbnail: bytes
    thumbnail_format: Format


def finish(content: bytes, image: Image, settings: Settings, marker: Marker) -> tuple[bytes, CheckedPicture]:
    """Check the picture of this image, and add the marks of its origin to its file and its thumbnail.

    Raises:
        BadImage: as `check` raises it.
    """
    checked = check(
        content,
        max_pixels=settings.max_image_pixels,
        thumbnail_size=settings.thumbnail_size,
        thumbnail_format=Format(settings.thumbnail_format) if settings.thumbnail_format else None,
        ordered=(image.width, image.height),
    )
    return marker.mark(content, image), replace(checked, thumbnail=mark_copy(checked.thumbnail))


def check(
    content: bytes,
    *,
    max_pixels: int,
    thumbnail_size: int,
    thumbnail_format: Format | None,
    ordered: tuple[int, int] | None = None,
) -> CheckedPicture:
    """Decode the picture completely and make its thumbnail, which fits into a square of `thumbnail_size` pixels.

    `ordered` is the width and height that it must have. Its metadata cannot make it a bad picture.

    Takes 30-150 ms of one core for a megapixel, most of it with the GIL released: run it in a thread.

    Raises:
        BadImage: it is not a PNG, JPEG or WEBP, has too many pixels or another size, is animated, or is truncated.
    """
    separated = separate(content)
    picture, picture_format = _opened(separated, max_pixels)
    width, height = picture.size if separated.orientation < 5 else picture.size[::-1]  # 5 to 8 turn it on its side
    if ordered is not None and (width, height) != ordered:
        raise BadImage(f"the picture has {width} × {height} pixels, but {ordered[0]} × {ordered[1]} were ordered")
    _load(picture, separated)
    small_format = thumbnail_format or picture_format
    thumbnail = shrink(picture, separated, size=thumbnail_size, image_format=small_format, quality=_QUALITY)
    return CheckedPicture(picture_format, width, height, thumbnail, small_format)


def make_preview(content: bytes, *, max_bytes: int) -> bytes:
    """Decode an unfinished picture and encode it as a WEBP of at most `max_bytes`, within a square of 256 pixels.

    Takes about 5 ms of one core, and 100 ms for a preview in full size: run it in a thread.

    Raises:
        BadImage: as `check` raises it, or the preview does not fit into `max_bytes`.
    """
    separated = separate(content)
    picture, _ = _opened(separated, _MAX_PREVIEW_PIXELS)
    _load(picture, separated)
    for side in _PREVIEW_SIDES:
        small = shrink(picture, separated, size=side, image_format=Format.WEBP, quality=_PREVIEW_QUALITY)
        if len(small) <= max_bytes:
            return small
    raise BadImage(f"the preview takes {len(small)} bytes, more than {max_bytes}")


def _opened(separated: Separated, max_pixels: int) -> tuple[Pillow.Image, Format]:
    """The picture, not decoded yet: only its header is read, so a decompression bomb costs nothing."""
    content = separated.pixels
    try:
        picture = Pillow.open(BytesIO(content), formats=_READABLE)
    except UnidentifiedImageError as error:
        raise BadImage(f"the answer is not a PNG, JPEG or WEBP picture: it starts with {content[:12]!r}") from error
    except Exception as error:
        raise _undecodable(error) from error
    if picture.width * picture.height > max_pixels:
        raise BadImage(f"the picture has {picture.width} × {picture.height} pixels, more than {max_pixels}")
    if separated.is_animated or getattr(picture, "is_animated", False):
        raise BadImage("the picture is animated; only still pictures are accepted")
    return picture, Format[picture.format or ""]


def _load(picture: Pillow.Image, separated: Separated) -> None:
    """Decode it. Decoders raise errors of many kinds for malformed bytes; only a lack of memory is not their fault."""
    try:
        if picture.format == "PNG":
            # decoding ignores checksums; verify() checks them, and needs an object of its own (Pillow, Image.verify)
            with Pillow.open(BytesIO(separated.pixels), formats=("PNG",)) as unverified:
                unverified.verify()
        picture.load()
    except MemoryError:
        raise
    except Exception as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> BadImage:
    return BadImage(f"the picture cannot be decoded: {str(error) or type(error).__name__}")
