"""Marks in the segments of a JPEG file; they come before the first scan.

Source: ITU-T T.81, annex B; Exif 2.32, section 4.5.4; XMP specification part 3, section 1.1.3; C2PA 2.1, section A.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from common.provenance import exif
from common.provenance.found import Found, Unmarkable

SIGNATURE: Final = b"\xff\xd8\xff"
_APP0, _APP1, _APP11 = 0xE0, 0xE1, 0xEB
_EXIF: Final = b"Exif\x00\x00"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_MAX_SEGMENT: Final = 65_533  # bytes after the length, which counts itself

max_xmp_bytes: int = _MAX_SEGMENT - len(_XMP)


def read(content: bytes) -> Found:
    is_signed, xmp, tiff = False, None, None
    for marker, start, end in _segments(content):
        data = _data(content, start, end)
        # the box of a manifest store names its type in its first bytes
        is_signed = is_signed or (marker == _APP11 and data.startswith(b"JP") and b"c2pa" in data[:64])
        if marker == _APP1 and data.startswith(_XMP) and xmp is None:
            xmp = data[len(_XMP) :]
        elif marker == _APP1 and data.startswith(_EXIF) and tiff is None:
            tiff = data[len(_EXIF) :]
    return Found(is_signed, xmp, exif.user_comment(tiff))


def add_xmp(content: bytes, packet: bytes, *, replaces: bool) -> bytes:
    segment = _segment(_XMP + packet)
    after = 2
    for marker, start, end in _segments(content):
        data = _data(content, start, end)
        if marker == _APP1 and data.startswith(_XMP):  # readers take the first packet
            return content[:start] + segment + content[end if replaces else start :]
        if marker == _APP0 or (marker == _APP1 and data.startswith(_EXIF)):
            after = end
    return content[:after] + segment + content[after:]


def add_parameters(content: bytes, text: str) -> bytes:
    after = 2
    for marker, start, end in _segments(content):
        data = _data(content, start, end)
        if marker == _APP1 and data.startswith(_EXIF):
            tiff = exif.with_user_comment(data[len(_EXIF) :], text)
            return content[:start] + _segment(_EXIF + tiff) + content[end:]
        if marker == _APP0 and after == start:
            after = end
    return content[:after] + _segment(_EXIF + exif.with_user_comment(None, text)) + content[after:]


def _segment(data: bytes) -> bytes:
    if len(data) > _MAX_SEGMENT:
        raise Unmarkable(f"a segment cannot hold {len(data)} bytes")
    return b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data


def _data(content: bytes, start: int, end: int) -> bytes:
    marker_at = start
    while content[marker_at + 1] == 0xFF:  # fill bytes
        marker_at += 1
    return content[marker_at + 4 : end]


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The marker, start and end of each segment before the first scan, or before bytes that are no segment."""
    position = 2
    while True:
        marker_at = position
        while content[marker_at : marker_at + 2] == b"\xff\xff":
            marker_at += 1
        if len(content) < marker_at + 4 or content[marker_at] != 0xFF:
            return
        marker = content[marker_at + 1]
        length = int.from_bytes(content[marker_at + 2 : marker_at + 4], "big")
        end = marker_at + 2 + length
        if marker in {0xDA, 0xD9} or marker < 0xC0 or length < 2 or end > len(content):
            return
        yield marker, position, end
        position = end
