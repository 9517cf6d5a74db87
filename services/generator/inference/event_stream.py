"""Reader of server-sent events in the answer of an inference service, bounded in size.

Source: docs/inference-http.md; WHATWG HTML, section 9.2.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from common.domain.errors import BadImage
from common.domain.texts import clean_text

log = logging.getLogger(__name__)

LARGE: Final = 64_000  # bytes of an event that is parsed in a thread: in the loop it would take 0.2 ms and more

_MAX_PREVIEW_BYTES: Final = 256 * 1024  # a PNG of 256 × 256 pixels of noise has 200 kB
_MAX_PREVIEW_BLOCK: Final = _MAX_PREVIEW_BYTES * 4 // 3 + 1_000  # in base64, with the fields around it
_PREVIEW: Final = re.compile(rb"(?:\A|\n)event: ?preview *(?:\n|\Z)")
_PREVIEW_HEAD: Final = 1_000  # bytes; comments and other fields may come before the name
_BOM: Final = b"\xef\xbb\xbf"


async def server_sent_events(
    response: aiohttp.ClientResponse, *, max_bytes: int
) -> AsyncIterator[tuple[str, dict[str, object]]]:
    """The events as pairs of name and JSON object; other data is ignored.

    Raises:
        BadImage: the stream is larger than `max_bytes` without its previews, or its result is malformed.
    """
    blocks = _Blocks(max_bytes)
    async for piece in response.content.iter_any():
        for block in blocks.feed(piece):
            event = await asyncio.to_thread(parse_event, block) if len(block) > LARGE else parse_event(block)
            if event:
                yield event


class _Blocks:
    """Splits the stream into the blocks between empty lines, with LF as the end of each line.

    The stream is bounded as a whole, except for previews. Each preview is bounded by itself, and one that is too
    large is discarded while it arrives.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._is_first = True
        self._ended_with_cr = False
        self._searched = self._counted = 0
        self._is_too_large = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The blocks that end in this piece."""
        buffer, blocks = self._buffer, list[bytes]()
        buffer += self._with_lf(piece)
        if self._is_first and len(buffer) >= len(_BOM):
            self._is_first = False
            if buffer.startswith(_BOM):
                del buffer[: len(_BOM)]
        while (end := buffer.find(b"\n\n", self._searched)) >= 0:
            block = bytes(buffer[:end])
            del buffer[: end + 2]
            self._searched = 0
            is_preview = self._is_too_large or _is_preview(block)
            self._counted += 0 if is_preview else end + 2
            if self._is_too_large or (is_preview and end > _MAX_PREVIEW_BLOCK):
                log.debug("preview ignored: it has more than %d bytes", _MAX_PREVIEW_BYTES)
            else:
                blocks.append(block)
            self._is_too_large = False
        self._bound()
        return blocks

    def _with_lf(self, piece: bytes) -> bytes:
        if self._ended_with_cr and piece.startswith(b"\n"):
            piece = piece[1:]  # the second half of a CRLF
        self._ended_with_cr = piece.endswith(b"\r") or (self._ended_with_cr and not piece)
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece

    def _bound(self) -> None:
        buffer = self._buffer
        if self._is_too_large or (len(buffer) > _MAX_PREVIEW_BLOCK and _is_preview(buffer)):
            self._is_too_large = True
            del buffer[:-1]  # the last byte may be the first half of an empty line
        self._searched = max(0, len(buffer) - 1)
        if self._counted + len(buffer) > self._max_bytes:
            raise BadImage(f"the stream of the inference service has more than {self._max_bytes} bytes")


def _is_preview(block: bytes | bytearray) -> bool:
    return _PREVIEW.search(block, 0, _PREVIEW_HEAD) is not None


def parse_event(block: bytes) -> tuple[str, dict[str, object]] | None:
    """The name and JSON object of one block; None if it has none. Takes 20 ms for 14 MB.

    Raises:
        BadImage: it is the result, and is not JSON.
    """
    name, data = "message", []
    for line in block.decode(errors="replace").split("\n"):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data.append(value.removeprefix(" "))
    if not data:
        return None
    try:
        # not strict: base64 may be wrapped, and a line end in a text is one between two lines of data
        parsed = json.loads("\n".join(data), strict=False)
    except (ValueError, RecursionError) as error:
        if name in {"completed", "error"}:
            raise BadImage(f"the event {name!r} of the inference service is not JSON") from error
        log.debug("event %s ignored: it is not JSON", clean_text(name, 30))
        return None
    return (name, parsed) if isinstance(parsed, dict) else None
