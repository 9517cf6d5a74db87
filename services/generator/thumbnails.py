"""Small copies of decoded pictures: sRGB pixels as a viewer shows them, without any metadata.

Pillow, to be run in a worker thread.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

from PIL import Image as Pillow
from PIL import ImageChops, ImageCms

from common.domain.images import Format
from services.generator.metadata import Separated

# modes in which each format is saved; other modes are converted to RGB or RGBA first
_MODES: Final = {
    Format.PNG: frozenset({"L", "LA", "RGB", "RGBA"}),
    Format.JPEG: frozenset({"L", "RGB"}),
    Format.WEBP: frozenset({"RGB", "RGBA"}),
}
_TRANSPOSED: Final = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}


def shrink(picture: Pillow.Image, separated: Separated, *, size: int, image_format: Format, quality: int) -> bytes:
    """A copy within a square of `size` pixels, encoded in this format. The order of the steps matters: the profile is
    applied to few pixels."""
    small = _resizable(picture, separated)
    small.thumbnail((size, size), Pillow.Resampling.LANCZOS)
    small = _in_srgb(small, separated.profile)
    if (method := _TRANSPOSED.get(separated.orientation)) is not None:
        small = small.transpose(method)
    small = _in_mode_of(image_format, small)
    small.info.clear()
    out = BytesIO()
    small.save(out, format=image_format.name, optimize=True, quality=quality)
    return out.getvalue()


def _resizable(picture: Pillow.Image, separated: Separated) -> Pillow.Image:
    """A copy in a mode that can be resampled: 8 bits for each channel, no palette, transparency as a channel."""
    key = separated.transparency
    if picture.mode == "P":
        if not key:
            return picture.convert("RGB")
        picture.info["transparency"] = key[:256]  # the opacity of each colour of the palette
        return picture.convert("RGBA")
    if picture.mode.startswith("I"):
        eight_bits = picture.point(lambda value: value / 256).convert("L")  # not clipped at 255
        return _with_opacity(eight_bits, _opacity_of_16_bits(picture, key)) if key else eight_bits
    if picture.mode == "1":
        picture = picture.convert("L")  # as shades: 1-bit pictures would be resampled without smoothing
    if picture.mode in {"L", "RGB"} and key:
        return _with_opacity(picture.copy(), _opacity(picture, key, separated.bit_depth))
    return picture.copy()


def _with_opacity(picture: Pillow.Image, opacity: Pillow.Image | None) -> Pillow.Image:
    if opacity is not None:
        picture.putalpha(opacity)
    return picture


def _opacity(picture: Pillow.Image, key: bytes, bit_depth: int) -> Pillow.Image | None:
    """0 where a pixel has the transparent colour: one value of two bytes for each channel, of `bit_depth` bits."""
    channels = picture.split()
    if len(key) < 2 * len(channels):
        return None
    values = [int.from_bytes(key[2 * n : 2 * n + 2], "big") & (1 << bit_depth) - 1 for n in range(len(channels))]
    # decoded channels have 8 bits: fewer are spread over the range, of 16 the upper ones are left
    in_8_bits = [value >> 8 if bit_depth == 16 else value * 255 // ((1 << bit_depth) - 1) for value in values]
    return _differs(channels, in_8_bits)


def _opacity_of_16_bits(picture: Pillow.Image, key: bytes) -> Pillow.Image | None:
    if len(key) < 2 or not picture.mode.startswith("I;16"):
        return None
    pixels = picture.tobytes()
    high, low = (1, 0) if picture.mode != "I;16B" else (0, 1)
    halves = [Pillow.frombytes("L", picture.size, pixels[first::2]) for first in (high, low)]
    return _differs(halves, [key[0], key[1]])


def _differs(channels: list[Pillow.Image] | tuple[Pillow.Image, ...], values: list[int]) -> Pillow.Image:
    """255 where at least one channel differs from its value, else 0."""
    differences = [
        channel.point([0 if shade == value else 255 for shade in range(256)])
        for channel, value in zip(channels, values, strict=True)
    ]
    differs = differences[0]
    for difference in differences[1:]:
        differs = ImageChops.lighter(differs, difference)
    return differs


def _in_srgb(picture: Pillow.Image, profile: bytes | None) -> Pillow.Image:
    """The picture in the colours of sRGB; unchanged if the profile is malformed, or is not for colours of this mode."""
    if profile is None:
        return picture
    opacity = picture.getchannel("A") if "A" in picture.getbands() else None
    colours = picture if opacity is None else picture.convert("L" if picture.mode == "LA" else "RGB")
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return picture
    return picture if converted is None else _with_opacity(converted, opacity)


def _in_mode_of(image_format: Format, picture: Pillow.Image) -> Pillow.Image:
    has_opacity = "A" in picture.getbands()
    if has_opacity and image_format is Format.JPEG:
        on_white = Pillow.new("RGB", picture.size, "white")
        on_white.paste(picture.convert("RGB"), mask=picture.getchannel("A"))
        return on_white
    if picture.mode in _MODES[image_format]:
        return picture
    return picture.convert("RGBA" if has_opacity else "RGB")
