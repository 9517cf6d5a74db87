"""Writes of a large body, piece by piece, to a client that may stop reading."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from services.api.events.waits import Disconnected

PIECE: Final = 262_144  # bytes given to the connection at once
WRITE_TIMEOUT_S: Final = 60.0  # for one piece: a client that has stopped reading is disconnected


async def write_piece(request: web.Request, response: web.StreamResponse, piece: bytes) -> None:
    """Send a piece; a client that does not take it in time is disconnected, so that it sees a broken download.

    Raises:
        Disconnected: the client has left, or was disconnected.
    """
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await response.write(piece)
    except (TimeoutError, ConnectionError) as error:
        if request.transport is not None:
            request.transport.abort()
        raise Disconnected from error


async def write_all(request: web.Request, response: web.StreamResponse, content: bytes) -> None:
    """Send the content; no connection holds more than a piece of it, besides the content itself.

    Raises:
        Disconnected: the client has left, or was disconnected.
    """
    for start in range(0, len(content), PIECE):
        await write_piece(request, response, content[start : start + PIECE])
    await response.write_eof()
