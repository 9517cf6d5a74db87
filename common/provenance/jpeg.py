"""Marks in the segments of a JPEG file; they come before the first scan.

Source: ITU-T T.81, annex B; Exif 2.32, section 4.5.4; XMP specification part 3, section 1.1.3; C2PA 2.1, section A.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from common.provenance import exif
from common.provenance.found import Found, Unmarkable

SIGNATURE: Final = b"\xff\xd8\xff"
_APP0, _APP1, _APP11 = 0xE0, 0xE1, 0xEB
_EXIF: Final = b"Exif\x00\x00"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_MAX_SEGMENT: Final = 65_533  # bytes after the length, which counts itself

_JFIF: Final = b"JFIF\x00"
_PROFILE: Final = b"ICC_PROFILE\x00"
_ADOBE: Final = b"Adobe"
_SCAN, _END = 0xDA, b"\xff\xd9"
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # in a scan: neither a byte of its data nor a restart

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


def without_metadata(content: bytes) -> bytes:
    """Segments may also stand between the scans, and anything after the end of the picture."""
    kept, position, orientation, has_scan = [content[:2]], 2, 1, False
    while (found := _segment_at(content, position)) is not None:
        marker, end = found
        data = _data(content, position, end)
        if marker == _APP1 and data.startswith(_EXIF) and orientation == 1:
            orientation = exif.orientation_of(data[len(_EXIF) :])
        kept.append(_shown(marker, data, content[position:end]))
        if marker == _SCAN:
            match = _MARKER.search(content, end)
            scan_end = match.start() if match else len(content)
            kept.append(content[end:scan_end])
            end, has_scan = scan_end, True
        position = end
    if not has_scan or (position < len(content) and not _MARKER.match(content, position)):
        raise Unmarkable("it has no scan, or its segments are malformed")
    tiff = exif.with_orientation_only(orientation)
    at = 2 if len(kept) > 1 and kept[1].startswith(b"\xff\xe0") else 1
    return b"".join([*kept[:at], _segment(_EXIF + tiff) if tiff else b"", *kept[at:], _END])


def _shown(marker: int, data: bytes, segment: bytes) -> bytes:
    """The segment if a decoder needs it: tables, frames, scans, and how the colours are coded; else nothing."""
    if marker == _APP0 and data.startswith(_JFIF) and len(data) >= 14:
        return b"\xff\xe0\x00\x10" + data[:12] + b"\0\0"  # without its thumbnail
    if marker == 0xE2 and data.startswith(_PROFILE):
        return segment
    if marker == 0xEE and data.startswith(_ADOBE) and len(data) >= 12:
        return b"\xff\xee\x00\x0e" + data[:12]
    if 0xD0 <= marker <= 0xD9:  # restarts and the start of a picture have no data
        raise Unmarkable("it has a marker where no decoder expects it")
    return b"" if marker >= 0xE0 else segment


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
    while (found := _segment_at(content, position)) is not None and found[0] != _SCAN:
        marker, end = found
        yield marker, position, end
        position = end


def _segment_at(content: bytes, position: int) -> tuple[int, int] | None:
    """The marker and the end of the segment here; None at the end of the picture, or at bytes that are no segment."""
    while content[position : position + 2] == b"\xff\xff":  # fill bytes
        position += 1
    if len(content) < position + 4 or content[position] != 0xFF:
        return None
    marker = content[position + 1]
    length = int.from_bytes(content[position + 2 : position + 4], "big")
    end = position + 2 + length
    return None if marker == _END[1] or marker < 0xC0 or length < 2 or end > len(content) else (marker, end)
