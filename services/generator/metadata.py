"""Separation of a picture's pixels from its metadata, in the bytes of a PNG, JPEG or WEBP file.

    file ──▶ the same file with nothing but pixels   (decoded by Pillow)
        └──▶ orientation, colour profile, transparency: read here within limits, ignored if malformed

Texts, EXIF and the rest are dropped unread. So metadata can neither refuse sound pixels nor unpack into megabytes. What
this module does not understand it leaves in place: whether the pixels are sound is decided by the decoder.
Sources: PNG 3rd edition, section 11; ITU-T T.81, annex B; the WebP container specification; Exif 2.32, section 4.6.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from common.provenance.exif import orientation_of

MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024  # unpacked; profiles of printers have 2 MB, of screens under 10 kB

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_PNG_METADATA: Final = frozenset({b"acTL", b"fdAT", b"tRNS", b"iCCP", b"eXIf"})
_JPEG: Final = b"\xff\xd8\xff"
# a JFIF header without density or thumbnail: its presence says that the colours are YCbCr
_JFIF: Final = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_WEBP_PIXELS: Final = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_KEPT_FLAGS: Final = 0x12  # alpha and animation; not the flags of profile, EXIF and XMP


@dataclass(frozen=True, slots=True)
class Separated:
    """A file with nothing but pixels, and what was read of its metadata.

    `orientation` is that of EXIF, 1 to 8. `transparency` is the content of a PNG's tRNS chunk.
    """

    pixels: bytes
    orientation: int = 1
    profile: bytes | None = None
    transparency: bytes | None = None
    bit_depth: int = 8
    is_animated: bool = False  # of an animated PNG: its pixels are those of the default image


def separate(content: bytes) -> Separated:
    """Separate the pixels of a file from its metadata; other files are returned unchanged."""
    if content.startswith(_PNG):
        return _separate_png(content)
    if content.startswith(_JPEG):
        return _separate_jpeg(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _separate_webp(content)
    return Separated(content)


def _separate_png(content: bytes) -> Separated:
    pixels, found = [_PNG], dict[bytes, bytes]()
    position = len(_PNG)
    has_pixels = False
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if kind in _PNG_PIXELS:
            pixels.append(content[position:end])
            has_pixels = has_pixels or kind == b"IDAT"
        # of the metadata, only the frames of an animation may follow the pixels
        elif kind in _PNG_METADATA - found.keys() and (kind == b"fdAT" or not has_pixels):
            found |= {kind: content[position + 8 : end - 4]} if _has_valid_crc(content, position, length) else {}
        if kind == b"IEND":
            break
        position = end
    return Separated(
        b"".join(pixels),
        orientation=orientation_of(found.get(b"eXIf", b"")),
        profile=_png_profile(found.get(b"iCCP", b"")),
        transparency=found.get(b"tRNS"),
        bit_depth=content[24] if len(content) > 24 else 8,
        is_animated=b"fdAT" in found and found.get(b"acTL", b"")[:4] > b"\x00\x00\x00\x01",
    )


def _has_valid_crc(content: bytes, position: int, length: int) -> bool:
    if position + 12 + length > len(content):
        return False
    covered = memoryview(content)[position + 4 : position + 8 + length]
    return zlib.crc32(covered).to_bytes(4, "big") == content[position + 8 + length : position + 12 + length]


def _png_profile(chunk: bytes) -> bytes | None:
    _, separator, packed = chunk.partition(b"\x00")
    if not separator or packed[:1] != b"\x00":  # the method of compression; only 0 is defined
        return None
    try:
        profile = zlib.decompressobj().decompress(packed[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return profile if len(profile) <= MAX_PROFILE_BYTES else None


def _separate_jpeg(content: bytes) -> Separated:
    """Metadata comes before the first scan; what follows it is not changed."""
    pixels, orientation, profile = [content[:2]], 1, _JpegProfile()
    position = 2
    while (segment := _jpeg_segment(content, position)) is not None:
        marker, data, end = segment
        if marker == 0xE0 and data.startswith(b"JFIF\x00"):
            pixels.append(_JFIF)
        elif marker == 0xE1 and data.startswith(b"Exif\x00\x00") and orientation == 1:
            orientation = orientation_of(data[6:])
        elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\x00"):
            profile.add(data[12:])
        elif marker == 0xEE and data.startswith(b"Adobe") and len(data) >= 12:
            pixels.append(content[position:end])  # says how the colours are coded
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            pixels.append(content[position:end])
        position = end
    pixels.append(content[position:])
    return Separated(b"".join(pixels), orientation=orientation, profile=profile.whole())


def _jpeg_segment(content: bytes, position: int) -> tuple[int, bytes, int] | None:
    """The marker, data and end of the segment here; None at the first scan, or at bytes that are no segment."""
    marker_at = position
    while content[marker_at : marker_at + 2] == b"\xff\xff":  # fill bytes
        marker_at += 1
    if len(content) < marker_at + 4 or content[marker_at] != 0xFF:
        return None
    marker = content[marker_at + 1]
    length = int.from_bytes(content[marker_at + 2 : marker_at + 4], "big")
    end = marker_at + 2 + length
    if marker in {0xDA, 0xD9} or marker < 0xC0 or length < 2 or end > len(content):
        return None
    return marker, content[marker_at + 4 : end], end


class _JpegProfile:
    """The parts of a profile, each with its number and the number of all parts before it (ICC.1, annex B.4)."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}
        self._count = 0

    def add(self, data: bytes) -> None:
        if len(data) >= 2:
            self._parts[data[0]] = data[2:]
            self._count = data[1]

    def whole(self) -> bytes | None:
        if sorted(self._parts) != list(range(1, self._count + 1)):
            return None
        profile = b"".join(self._parts[number] for number in range(1, self._count + 1))
        return profile if 0 < len(profile) <= MAX_PROFILE_BYTES else None


def _separate_webp(content: bytes) -> Separated:
    pixels, orientation, profile = list[bytes](), 1, None
    position, is_truncated = 12, False
    while position + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, position)
        data_at, end = position + 8, position + 8 + size + size % 2
        chunk = content[position:end]
        if kind == b"VP8X" and len(chunk) > 8:
            pixels.append(chunk[:8] + bytes([chunk[8] & _WEBP_KEPT_FLAGS]) + chunk[9:])
            is_truncated = is_truncated or data_at + size > len(content)
        elif kind in _WEBP_PIXELS:
            pixels.append(chunk)
            is_truncated = is_truncated or data_at + size > len(content)
        elif kind == b"EXIF" and orientation == 1:
            orientation = orientation_of(chunk[8:].removeprefix(b"Exif\x00\x00"))
        elif kind == b"ICCP" and profile is None and size <= MAX_PROFILE_BYTES:
            profile = chunk[8 : 8 + size]
        position = end
    body = b"WEBP" + b"".join(pixels)
    # a file whose pixels are cut off must stay one that the decoder refuses
    announced = int.from_bytes(content[4:8], "little") if is_truncated else len(body)
    return Separated(b"RIFF" + struct.pack("<I", announced) + body, orientation=orientation, profile=profile)
