"""Reading the answer of another server, which may never end."""

from __future__ import annotations

import aiohttp


class TooLarge(Exception):
    """The body is larger than the caller bears; nothing more of it was read."""


async def read_body(response: aiohttp.ClientResponse, *, max_bytes: int) -> bytes:
    """The whole body, read in pieces.

    Raises:
        TooLarge: it is longer than `max_bytes`.
        aiohttp.ClientError: it broke off before its announced end.
    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes")
    return bytes(body)
