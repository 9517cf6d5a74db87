"""Reader of server-sent events in the answer of an inference service, bounded in size.

Source: docs/inference-http.md; WHATWG HTML, section 9.2.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from common.domain.errors import BadImage

log = logging.getLogger(__name__)

_MAX_PREVIEW_BYTES: Final = 256 * 1024  # a PNG of 256 × 256 pixels of noise has 200 kB
_MAX_PREVIEW_BLOCK: Final = _MAX_PREVIEW_BYTES * 4 // 3 + 1_000  # in base64, with the fields around it
_PREVIEW: Final = b"event: preview\n"


async def server_sent_events(
    response: aiohttp.ClientResponse, *, max_bytes: int
) -> AsyncIterator[tuple[str, dict[str, object]]]:
    """The events as pairs of name and JSON object; other data is ignored.

    Raises:
        BadImage: the stream is larger than `max_bytes` without its previews, or is malformed.
    """
    async for block in _blocks(response, max_bytes=max_bytes):
        if event := _event(block):
            yield event


async def _blocks(response: aiohttp.ClientResponse, *, max_bytes: int) -> AsyncIterator[bytes]:
    """The blocks between empty lines.

    The stream is bounded as a whole, except for previews. Each preview is bounded by itself, and one that is too
    large is discarded while it arrives.
    """
    buffer = bytearray()
    searched = counted = 0
    is_too_large = False
    async for piece in response.content.iter_any():
        if b"\r" in piece:
            raise BadImage("the stream of the inference service ends its lines with CR; only LF is supported")
        buffer += piece
        while (end := buffer.find(b"\n\n", searched)) >= 0:
            block = bytes(buffer[:end])
            del buffer[: end + 2]
            searched = 0
            is_preview = is_too_large or block.startswith(_PREVIEW)
            counted += 0 if is_preview else end + 2
            if is_too_large or (is_preview and end > _MAX_PREVIEW_BLOCK):
                log.debug("preview ignored: it has more than %d bytes", _MAX_PREVIEW_BYTES)
            else:
                yield block
            is_too_large = False
        if is_too_large or (len(buffer) > _MAX_PREVIEW_BLOCK and buffer.startswith(_PREVIEW)):
            is_too_large = True
            del buffer[:-1]  # the last byte may be the first half of an empty line
        searched = max(0, len(buffer) - 1)
        if counted + len(buffer) > max_bytes:
            raise BadImage(f"the stream of the inference service has more than {max_bytes} bytes")


def _event(block: bytes) -> tuple[str, dict[str, object]] | None:
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
        parsed = json.loads("\n".join(data))
    except (ValueError, RecursionError) as error:
        if name == "preview":
            log.debug("preview ignored: it is not JSON")
            return None
        raise BadImage(f"the event {name[:30]!r} of the inference service is not JSON") from error
    return (name, parsed) if isinstance(parsed, dict) else None
