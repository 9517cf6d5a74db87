"""Marks in the chunks of a WEBP file; a simple file becomes an extended one, whose header says what it holds.

Source: the WebP container specification (RFC 9649, section 2); C2PA 2.1, section A.3.
"""

from __future__ import annotations

import struct
from typing import Final

from common.provenance import exif
from common.provenance.found import Found, Unmarkable

_PROFILE_FLAG, _ALPHA, _EXIF_FLAG, _XMP_FLAG = 0x20, 0x10, 0x08, 0x04
_SHOWN: Final = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP"})
_EXIF_PREFIX: Final = b"Exif\x00\x00"  # of JPEG; some programs write it here too

max_xmp_bytes: int = 1_048_576

Chunks = list[tuple[bytes, bytes]]  # the kind and the data of each


def read(content: bytes) -> Found:
    chunks, _ = _chunks(content)
    first = dict(reversed(chunks))
    tiff = _tiff(first[b"EXIF"]) if b"EXIF" in first else None
    return Found(b"C2PA" in first, first.get(b"XMP "), exif.user_comment(tiff))


def add_xmp(content: bytes, packet: bytes, *, replaces: bool) -> bytes:
    chunks, rest = _chunks(content)
    at = next((number for number, (kind, _) in enumerate(chunks) if kind == b"XMP "), len(chunks))
    chunks[at : at + replaces] = [(b"XMP ", packet)]  # readers take the first packet
    return _file(_extended(chunks, _XMP_FLAG), rest)


def add_parameters(content: bytes, text: str) -> bytes:
    chunks, rest = _chunks(content)
    at = next((number for number, (kind, _) in enumerate(chunks) if kind == b"EXIF"), None)
    if at is None:
        chunks.append((b"EXIF", exif.with_user_comment(None, text)))
    else:
        data = chunks[at][1]
        prefix = _EXIF_PREFIX if data.startswith(_EXIF_PREFIX) else b""
        chunks[at] = (b"EXIF", prefix + exif.with_user_comment(data.removeprefix(prefix), text))
    return _file(_extended(chunks, _EXIF_FLAG), rest)


def without_metadata(content: bytes) -> bytes:
    chunks, _ = _chunks(content)
    if any(kind in {b"ANIM", b"ANMF"} for kind, _ in chunks) or not {b"VP8 ", b"VP8L"} & {kind for kind, _ in chunks}:
        raise Unmarkable("it has no pixels, or is an animation")
    orientation = next((exif.orientation_of(_tiff(data)) for kind, data in chunks if kind == b"EXIF"), 1)
    kept = [(kind, data) for kind, data in chunks if kind in _SHOWN]
    if kept[0][0] == b"VP8X":
        flags = kept[0][1][:1] or b"\0"
        kept[0] = (b"VP8X", bytes([flags[0] & (_PROFILE_FLAG | _ALPHA)]) + kept[0][1][1:])
    if tiff := exif.with_orientation_only(orientation):
        kept = _extended([*kept, (b"EXIF", tiff)], _EXIF_FLAG)
    return _file(kept, b"")


def _tiff(data: bytes) -> bytes:
    return data.removeprefix(_EXIF_PREFIX)


def _chunks(content: bytes) -> tuple[Chunks, bytes]:
    """The chunks that are there completely, and the bytes after them."""
    chunks, position = Chunks(), 12
    end = min(8 + int.from_bytes(content[4:8], "little"), len(content))
    while position + 8 <= end:
        kind, size = struct.unpack_from("<4sI", content, position)
        data = content[position + 8 : position + 8 + size]
        if len(data) < size:
            break
        chunks.append((kind, data))
        position += 8 + size + size % 2
    return chunks, content[position:]


def _extended(chunks: Chunks, flag: int) -> Chunks:
    """The chunks with a header that has this flag."""
    if not chunks:
        raise Unmarkable("it has no pixels")
    kind, data = chunks[0]
    if kind == b"VP8X" and len(data) >= 10:
        return [(kind, bytes([data[0] | flag]) + data[1:]), *chunks[1:]]
    if kind == b"VP8L" and len(data) >= 5 and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
        return [_header(flag | _ALPHA * alpha, width, height), *chunks]
    if kind == b"VP8 " and len(data) >= 10:
        width, height = struct.unpack_from("<HH", data, 6)
        return [_header(flag, (width & 0x3FFF) - 1, (height & 0x3FFF) - 1), *chunks]
    raise Unmarkable(f"it begins with a chunk {kind!r}")


def _header(flags: int, last_column: int, last_row: int) -> tuple[bytes, bytes]:
    if last_column < 0 or last_row < 0:
        raise Unmarkable("it has no pixels")
    return b"VP8X", struct.pack("<I", flags) + last_column.to_bytes(3, "little") + last_row.to_bytes(3, "little")


def _file(chunks: Chunks, rest: bytes) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body + rest
