"""The bytes of a zip file that is written from its beginning to its end, without compression.

    local header, content ─ … ─ local header, content ─▶ central directory ─▶ end

The checksum and the size stand before each content, so that also a program that reads the file as it arrives can unpack
it. Beyond 4 GiB or 65,535 files the end is in the form of ZIP64.

Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

_UTF_8: Final = 1 << 11  # flag: the name is in UTF-8
_VERSION: Final = 20
_VERSION_64: Final = 45
_MADE_BY_UNIX: Final = 3 << 8 | _VERSION_64
_FILE_MODE: Final = 0o100644 << 16
_MAX_32: Final = 0xFFFF_FFFF
_MAX_16: Final = 0xFFFF
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END_64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR: Final = struct.Struct("<4sIQI")


@dataclass(slots=True)
class ZipWriter:
    """Makes the bytes around the contents; holds nothing but one line of the directory for each file."""

    offset: int = 0
    _count: int = 0
    _directory: bytearray = field(default_factory=bytearray)

    def header(self, name: str, content: bytes, *, at: datetime) -> bytes:
        """What comes before this content, which must follow it and be smaller than 4 GiB."""
        encoded = name.encode()
        time, date = _dos_time(at)
        checksum, size = zlib.crc32(content), len(content)
        header = _LOCAL.pack(b"PK\3\4", _VERSION, _UTF_8, 0, time, date, checksum, size, size, len(encoded), 0)
        is_far = self.offset >= _MAX_32
        extra = struct.pack("<2HQ", 1, 8, self.offset) if is_far else b""
        version, start = (_VERSION_64, _MAX_32) if is_far else (_VERSION, self.offset)
        self._directory += _CENTRAL.pack(
            *(b"PK\1\2", _MADE_BY_UNIX, version, _UTF_8, 0, time, date, checksum, size, size),
            *(len(encoded), len(extra), 0, 0, 0, _FILE_MODE, start),
        )
        self._directory += encoded + extra
        self._count += 1
        self.offset += len(header) + len(encoded) + size
        return header + encoded

    def end(self) -> bytes:
        """What comes after the last content."""
        size, start = len(self._directory), self.offset
        parts = [bytes(self._directory)]
        if start + size >= _MAX_32 or self._count >= _MAX_16:
            total = self._count
            record = (b"PK\6\6", _END_64.size - 12, _MADE_BY_UNIX, _VERSION_64, 0, 0, total, total, size, start)
            parts += [_END_64.pack(*record), _LOCATOR.pack(b"PK\6\7", 0, start + size, 1)]
        count = min(self._count, _MAX_16)
        parts.append(_END.pack(b"PK\5\6", 0, 0, count, count, min(size, _MAX_32), min(start, _MAX_32), 0))
        return b"".join(parts)


def _dos_time(moment: datetime) -> tuple[int, int]:
    """Time and date in UTC, to two seconds, from 1980 to 2107."""
    moment = moment.astimezone(UTC)
    if not 1980 <= moment.year <= 2107:
        return 0, 1 << 5 | 1
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return time, (moment.year - 1980) << 9 | moment.month << 5 | moment.day
