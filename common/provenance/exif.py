"""The fields of EXIF that matter here: the orientation; the comment where A1111 writes settings.

A comment is added behind what is there: the first directory and EXIF's own are written again at the end with one entry
more, and everything else keeps its place. So offsets stay valid, also those inside of a maker's notes.
Source: Exif 2.32, sections 4.5 and 4.6; TIFF 6.0, section 2.
"""

from __future__ import annotations

import struct
from typing import Final

from common.provenance.found import Unmarkable

_ORIENTATION: Final = 0x0112
_EXIF_DIRECTORY: Final = 0x8769
_USER_COMMENT: Final = 0x9286
_UNDEFINED, _LONG, _SHORT = 7, 4, 3
_MAX_ENTRIES: Final = 1_000  # cameras write fewer than 100
_EMPTY: Final = b"MM\x00*\x00\x00\x00\x08"
_UNICODE: Final = b"UNICODE\0"

TiffEntries = dict[int, bytes]


def orientation_of(tiff: bytes) -> int:
    """The orientation in the first directory, 1 to 8; 1 (as it is) if there is none, or if it is malformed."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for number in range(min(count, _MAX_ENTRIES)):
        entry = directory + 2 + 12 * number
        if entry + 12 > len(tiff):
            return 1
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _ORIENTATION:
            return value if (kind, values) == (3, 1) and 1 <= value <= 8 else 1  # one SHORT
    return 1


def with_orientation_only(orientation: int) -> bytes:
    """A structure that has nothing but this orientation; empty for 1, which needs none."""
    if orientation == 1:
        return b""
    return _EMPTY + struct.pack(">HHHIHHI", 1, _ORIENTATION, _SHORT, 1, orientation, 0, 0)


def user_comment(tiff: bytes | None) -> str | None:
    """The comment; None if there is none, an empty one, or if the structure is malformed."""
    try:
        return _user_comment(tiff) if tiff is not None else None
    except Unmarkable:
        return None


def _user_comment(tiff: bytes) -> str | None:
    order = _order(tiff)
    entry = _exif_directory(tiff, order, _first(tiff, order)[0])[0].get(_USER_COMMENT)
    if entry is None:
        return None
    length, value_at = struct.unpack_from(f"{order}II", entry, 4)
    if length <= 8:
        return None
    data = tiff[value_at : value_at + length]
    if data.startswith(_UNICODE):
        return _utf_16(data[8:]).strip("\0 ") or None
    return data[8:].decode("utf-8", "replace").strip("\0 ") or None


def with_user_comment(tiff: bytes | None, text: str) -> bytes:
    """The structure with this comment; a new one for None. Raises Unmarkable if it is malformed."""
    tiff = tiff or _EMPTY
    order = _order(tiff)
    first, after_first = _first(tiff, order) if tiff != _EMPTY else (TiffEntries(), 0)
    exif, after_exif = _exif_directory(tiff, order, first)
    # UTF-16 in big-endian whatever the order of the file: so A1111 writes it, and reads nothing else
    comment = _UNICODE + text.encode("utf-16-be", "replace")
    out = bytearray(tiff + b"\0" * (len(tiff) % 2))
    exif[_USER_COMMENT] = struct.pack(f"{order}HHII", _USER_COMMENT, _UNDEFINED, len(comment), len(out))
    out += comment
    first[_EXIF_DIRECTORY] = struct.pack(f"{order}HHII", _EXIF_DIRECTORY, _LONG, 1, len(out))
    out += _directory(exif, after_exif, order)
    out[4:8] = struct.pack(f"{order}I", len(out))
    out += _directory(first, after_first, order)
    return bytes(out)


def _utf_16(data: bytes) -> str:
    """Some programs write it in the order of the file: the one that gives more zeros in Latin text is wrong."""
    is_little = data[1::2].count(0) > data[::2].count(0)
    return data.decode("utf-16-le" if is_little else "utf-16-be", "replace").removeprefix("\ufeff")


def _order(tiff: bytes) -> str:
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        raise Unmarkable("its EXIF is malformed")
    return order


def _first(tiff: bytes, order: str) -> tuple[TiffEntries, int]:
    return _entries(tiff, order, struct.unpack_from(f"{order}I", tiff, 4)[0])


def _exif_directory(tiff: bytes, order: str, first: TiffEntries) -> tuple[TiffEntries, int]:
    pointer = first.get(_EXIF_DIRECTORY)
    return _entries(tiff, order, struct.unpack_from(f"{order}I", pointer, 8)[0]) if pointer else (TiffEntries(), 0)


def _entries(tiff: bytes, order: str, position: int) -> tuple[TiffEntries, int]:
    """The entries of a directory by their tags, and the offset of the directory after it."""
    if position < 8 or position + 2 > len(tiff):
        raise Unmarkable("its EXIF is malformed")
    (count,) = struct.unpack_from(f"{order}H", tiff, position)
    end = position + 2 + 12 * count
    if count > _MAX_ENTRIES or end > len(tiff):
        raise Unmarkable("its EXIF is malformed")
    entries = [tiff[at : at + 12] for at in range(position + 2, end, 12)]
    # a few writers leave out the offset that ends the directory
    following = struct.unpack_from(f"{order}I", tiff, end)[0] if end + 4 <= len(tiff) else 0
    # of two entries with one tag, readers take the first
    return {struct.unpack(f"{order}H", entry[:2])[0]: entry for entry in reversed(entries)}, following


def _directory(entries: TiffEntries, following: int, order: str) -> bytes:
    count, end = struct.pack(f"{order}H", len(entries)), struct.pack(f"{order}I", following)
    return count + b"".join(entries[tag] for tag in sorted(entries)) + end
