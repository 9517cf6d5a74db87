"""The transport of a connection to the broker.

Frames whose properties cannot be decoded are mended before the library sees them. A publisher may set a timestamp in
the year 500,000, a table nested 10,000 deep or a name that is not UTF-8. pamqp raises on them and aiormq then drops the
connection, so one message would cost every consumer in the process, again and again. Here what is odd is left out of
the frame, and the header `UNREADABLE` names it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from typing import Any, Final, cast

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from pamqp import decode, encode
from pamqp.commands import Basic
from pamqp.constants import FRAME_END_CHAR, FRAME_HEADER
from pamqp.header import ContentHeader
from yarl import URL

from common.domain.errors import Misconfigured

log = logging.getLogger(__name__)

UNREADABLE: Final = "x-unreadable"
MAX_HEADER: Final = 16_384  # bytes; pamqp needs seconds for a table of 100 kB with 20,000 entries
MAX_HEADERS: Final = 64  # entries of such a table that are read
_OF_THE_BROKER: Final = frozenset({b"x-death", b"x-delivery-count", b"x-stream-offset"})
_HEAD: Final = struct.Struct(">BHI")  # type, channel and size of a frame (AMQP 0-9-1, 4.2.3)
_CONTENT: Final = struct.Struct(">HHQH")  # class, weight, body size, flags (4.2.6.1); never more than one word of flags
# Bytes of a value in a table, by its type (RabbitMQ's errata); `None`: four bytes tell how many follow.
_SIZES: Final[dict[bytes, int | None]] = {
    **dict.fromkeys((b"t", b"b", b"B"), 1),
    **dict.fromkeys((b"s", b"u"), 2),
    **dict.fromkeys((b"I", b"i", b"f"), 4),
    **dict.fromkeys((b"l", b"L", b"d", b"T"), 8),
    **dict.fromkeys((b"S", b"A", b"F", b"x")),
    b"D": 5,
    b"V": 0,
}


def node_urls(url: str) -> list[URL]:
    """The URL of each node that `BUS_URL` names: `amqp://user:password@one,two:5673/vhost` names two.

    Raises:
        Misconfigured: the URL has another form.
    """
    found = re.fullmatch(r"(amqps?://(?:[^/@]*@)?)([^/@?]+)(.*)", url)
    try:
        urls = [URL(found[1] + host + found[3]) for host in found[2].split(",")] if found else []
        is_complete = urls and all(each.host and (each.port is None or each.port > 0) for each in urls)
    except ValueError:
        is_complete = False
    if not is_complete:  # the message omits the URL, which contains a password
        detail = "BUS_URL: the form is amqp://user:password@host:5672/vhost, or several hosts: one:5672,two:5672"
        raise Misconfigured(detail, code="bad_setting")
    return urls


class TolerantTransport(TransportFactory):
    """Connects as aiormq does, with a reader that mends frames."""

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await factory.create(url, **kwargs)
        return cast(asyncio.StreamReader, _FrameReader(reader)), writer


class _FrameReader:
    """What aiormq 7.2.4 uses of a `StreamReader`: it reads one byte, six bytes, then the rest of a frame."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = b""
        self._in_frame = False

    def at_eof(self) -> bool:
        return not self._buffer and self._reader.at_eof()

    async def read(self, size: int = -1) -> bytes:
        return await self._reader.read(size)

    async def readexactly(self, size: int) -> bytes:
        if not self._buffer:
            if self._in_frame:
                self._in_frame = False
                return await self._reader.readexactly(size)
            await self._begin_frame()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def _begin_frame(self) -> None:
        head = await self._reader.readexactly(_HEAD.size)
        kind, channel, size = _HEAD.unpack(head)
        if kind != FRAME_HEADER:
            self._buffer, self._in_frame = head, True
            return
        payload = await self._reader.readexactly(size + 1)
        if not _is_readable(payload[:-1]):
            mended = _mended(payload[:-1])
            head, payload = _HEAD.pack(kind, channel, len(mended)), mended + FRAME_END_CHAR
        self._buffer = head + payload


def _is_readable(payload: bytes) -> bool:
    if len(payload) > MAX_HEADER:
        return False
    try:
        ContentHeader().unmarshal(payload)
    except Exception:  # noqa: BLE001 - ValueError, OverflowError, RecursionError, UnicodeDecodeError, IndexError …
        return False
    return True


def _mended(payload: bytes) -> bytes:
    """The content header with the properties that can be decoded, and the names of the others."""
    class_id, weight, body_size, flags = _CONTENT.unpack(payload[: _CONTENT.size])
    rest = payload[_CONTENT.size :]
    kept: dict[str, bytes] = {}
    entries, odd = b"", list[str]()
    for name in Basic.Properties.__slots__:
        if not flags & Basic.Properties.flags[name]:
            continue
        kind = Basic.Properties.amqp_type(name)
        size = _size(kind, rest)
        value, rest = rest[:size], rest[size:]
        if kind == "table":
            entries, odd_entries = _readable_entries(value[4:])
            odd += odd_entries
        elif _decodes(value, kind):
            kept[name] = value
        else:
            odd.append(name)
    log.warning("a message has unreadable properties: %s", ", ".join(odd)[:300])
    note = encode.short_string(UNREADABLE) + b"S" + encode.long_string(", ".join(odd)[:300])
    kept["headers"] = encode.long_uint(len(entries) + len(note)) + entries + note
    flags = sum(Basic.Properties.flags[name] for name in kept)
    values = b"".join(kept[name] for name in Basic.Properties.__slots__ if name in kept)
    return _CONTENT.pack(class_id, weight, body_size, flags) + values


def _size(kind: str, data: bytes) -> int:
    match kind:
        case "shortstr":
            return 1 + data[0]
        case "table":
            return 4 + int.from_bytes(data[:4])
        case "timestamp":
            return 8
    return 1  # an octet: delivery mode and priority


def _readable_entries(table: bytes) -> tuple[bytes, list[str]]:
    """The entries of a table that can be decoded, and the names of the others."""
    readable, odd = dict[bytes, bytes](), list[str]()
    start = 0
    while start < len(table):
        name_end = start + 1 + table[start]
        name, kind = table[start + 1 : name_end], table[name_end : name_end + 1]
        size = _SIZES.get(kind, 0)
        if size is None:
            size = 4 + int.from_bytes(table[name_end + 1 : name_end + 5])
        entry = table[start : name_end + 1 + size]
        is_wanted = name not in readable and (name in _OF_THE_BROKER or len(readable) < MAX_HEADERS)
        if is_wanted and kind in _SIZES and _decodes(encode.long_uint(len(entry)) + entry, "table"):
            readable[name] = entry
        elif len(odd) < MAX_HEADERS:
            odd.append(f"header {name.decode(errors='replace')!r}")
        if kind not in _SIZES:
            break  # nobody knows where it ends
        start += len(entry)
    return b"".join(readable.values()), odd


def _decodes(value: bytes, kind: str) -> bool:
    try:
        decode.by_type(value, kind)
    except Exception:  # noqa: BLE001 - see `_is_readable`
        return False
    return True
