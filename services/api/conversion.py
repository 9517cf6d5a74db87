"""Conversion of a stored picture for one answer; the stored file stays as it is.

A converted picture has the marks of its origin, and the settings if the stored file has them (docs/provenance.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import TYPE_CHECKING, Final

from common.domain.errors import Invalid
from common.domain.images import Format
from common.provenance.marks import mark_copy

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

AT_ONCE: Final = 2  # a picture of 16 megapixels takes about 100 MB while it is converted
RENDITION_QUALITY: Final = 82  # no difference is seen at the size it is drawn; 512 pixels take about 40 kB
DEFAULT_QUALITY: Final = 100  # as OpenAI's `output_compression`


def is_needed(stored: Format | None, wanted: Format, quality: int | None) -> bool:
    """Whether a picture has to be converted; a quality means nothing to PNG."""
    return stored is not wanted or (quality is not None and wanted is not Format.PNG)


class PictureConverter:
    """Converts in threads, a few at a time; one for each process."""

    def __init__(self, *, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def convert(self, content: bytes, wanted: Format, *, quality: int | None = None) -> bytes:
        """The picture in this format; `quality`, 0 to 100, counts for JPEG and WEBP.

        A megapixel takes 30 to 200 ms of one core.

        Raises:
            Invalid: `too_large`, the picture has more pixels than MAX_IMAGE_PIXELS allows now.
        """
        async with self._slots:
            return await asyncio.to_thread(_converted, content, wanted, quality, self._max_pixels)

    async def shrink(self, read: Callable[[], Awaitable[bytes | None]], width: int) -> bytes | None:
        """The picture that `read` returns as WEBP, at most this many pixels wide; None if there is none.

        It is read when its turn comes: a page may ask for a hundred at once, and none of them waits in memory.

        Raises:
            Invalid: `too_large`, the picture has more pixels than MAX_IMAGE_PIXELS allows now.
        """
        async with self._slots:
            content = await read()
            if content is None:
                return None
            return await asyncio.to_thread(_converted, content, Format.WEBP, RENDITION_QUALITY, self._max_pixels, width)


def _converted(
    content: bytes, wanted: Format, quality: int | None, max_pixels: int, max_width: int | None = None
) -> bytes:
    # only a process that converts pays the 10 MB of Pillow
    from PIL import Image as Pillow  # noqa: PLC0415
    from PIL import ImageOps  # noqa: PLC0415

    with Pillow.open(BytesIO(content), formats=[each.name for each in Format]) as opened:
        if opened.width * opened.height > max_pixels:
            raise Invalid(f"the picture has {opened.width} × {opened.height} pixels", code="too_large")
        profile = opened.info.get("icc_profile") if opened.mode in {"RGB", "RGBA"} else None
        picture = ImageOps.exif_transpose(opened)
    has_alpha = picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info
    picture = picture.convert("RGBA" if has_alpha else "RGB")
    if max_width is not None and picture.width > max_width:
        height = max(1, round(picture.height * max_width / picture.width))
        picture = picture.resize((max_width, height), Pillow.Resampling.LANCZOS)
    if has_alpha and wanted is Format.JPEG:
        picture = _on_white(picture, Pillow.new("RGBA", picture.size, "white"))
    quality = DEFAULT_QUALITY if quality is None else quality
    options = {} if wanted is Format.PNG else {"quality": max(1, quality)}
    out = BytesIO()
    picture.save(out, wanted.name, icc_profile=profile, **options)
    return mark_copy(out.getvalue(), content)


def _on_white(picture: Picture, white: Picture) -> Picture:
    white.alpha_composite(picture)
    return white.convert("RGB")
