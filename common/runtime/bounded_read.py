"""The body of another server's answer, with a limit of its size."""

from __future__ import annotations

import aiohttp


class TooLarge(Exception):
    """The body is larger than the caller's limit; the rest was not read."""


async def read_body(response: aiohttp.ClientResponse, *, max_bytes: int) -> bytes:
    """The whole body, read in pieces.

    Raises:
        TooLarge: it is longer than `max_bytes`.
        aiohttp.ClientError: the connection closed before the announced end.
    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_bytes:
            raise TooLarge(f"more than {max_bytes} bytes")
    return bytes(body)
