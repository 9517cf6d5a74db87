"""Marks in the chunks of a PNG file; they come before the pixels.

Source: PNG 3rd edition, section 11.3.3; XMP specification part 3, section 1.1.5; C2PA 2.1, section A.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from common.provenance.exif import orientation_of, with_orientation_only
from common.provenance.found import MAX_TEXT_BYTES, Found, Unmarkable

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_XMP: Final = b"XML:com.adobe.xmp"
_PARAMETERS: Final = b"parameters"
_TEXTS: Final = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_SHOWN: Final = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"bKGD", b"sBIT", b"pHYs"}
    | {b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI"}
)

max_xmp_bytes: int = 1_048_576


def read(content: bytes) -> Found:
    is_signed, xmp, parameters = False, None, None
    for kind, start, end in _chunks(content):
        is_signed = is_signed or kind == b"caBX"
        if kind not in _TEXTS:
            continue
        keyword, text = _text(kind, content[start + 8 : end - 4])
        if keyword == _XMP and kind == b"iTXt" and xmp is None:
            xmp = text
        elif keyword == _PARAMETERS and parameters is None:
            parameters = text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
    return Found(is_signed, xmp, parameters)


def add_xmp(content: bytes, packet: bytes, *, replaces: bool) -> bytes:
    """Ours takes the place of the first packet, or comes before it: readers take the first."""
    for kind, start, end in _chunks(content):
        if kind == b"iTXt" and content[start + 8 : end].startswith(_XMP + b"\0"):
            return content[:start] + _chunk(_XMP, packet) + content[end if replaces else start :]
    return _before_pixels(content, _chunk(_XMP, packet))


def add_parameters(content: bytes, text: str) -> bytes:
    return _before_pixels(content, _chunk(_PARAMETERS, text.encode(errors="replace")))


def without_metadata(content: bytes) -> bytes:
    kept, kind = [SIGNATURE], b""
    for kind, start, end in _chunks(content):
        if kind == b"eXIf":
            tiff = with_orientation_only(orientation_of(content[start + 8 : end - 4]))
            kept += [_plain_chunk(kind, tiff)] if tiff else []
        elif kind in _SHOWN:
            kept.append(content[start:end])
    if kind != b"IEND":
        raise Unmarkable("it has no end")
    return b"".join(kept)


def _before_pixels(content: bytes, chunk: bytes) -> bytes:
    pixels = next((start for kind, start, _ in _chunks(content) if kind == b"IDAT"), None)
    if pixels is None:
        raise Unmarkable("it has no pixels")
    return content[:pixels] + chunk + content[pixels:]


def _chunk(keyword: bytes, text: bytes) -> bytes:
    """An iTXt chunk, not compressed, of no language."""
    return _plain_chunk(b"iTXt", keyword + b"\0\0\0\0\0" + text)


def _plain_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind, start and end of each chunk that is there completely."""
    position = len(SIGNATURE)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            return
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end


def _text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """The keyword and the text of a chunk; no text if it is malformed, or unpacks to too much."""
    keyword, _, text = data.partition(b"\0")
    if kind == b"tEXt":
        return keyword, text
    if kind == b"zTXt":
        return keyword, _unpacked(text[1:])
    is_packed, (_, _, after) = text[:1] == b"\x01", text[2:].partition(b"\0")
    text = after.partition(b"\0")[2]
    return keyword, _unpacked(text) if is_packed else text


def _unpacked(packed: bytes) -> bytes:
    try:
        text = zlib.decompressobj().decompress(packed, MAX_TEXT_BYTES + 1)
    except zlib.error:
        return b""
    return text if len(text) <= MAX_TEXT_BYTES else b""
