"""An HTTP server for an aiohttp application, as a context manager."""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import http_exceptions, web

from common.domain.errors import Misconfigured

IDLE_S: Final = 75.0  # longer than proxies keep a connection (nginx: 60 s), or a proxy would use a closed one
MAX_HEAD_FIELD: Final = 8190  # bytes of the request line and of each header; a longer one is answered with 400
MAX_HEADERS: Final = 64
LINGERING_S: Final = 2.0  # for reading the rest of a body that no handler reads


@asynccontextmanager
async def serving(
    app: web.Application,
    *,
    host: str,
    port: int,
    stop_timeout_s: float,
    cancel_handlers: bool = False,
    idle_timeout_s: float = IDLE_S,
) -> AsyncIterator[int]:
    """Serve the application; yields the port it listens on.

    `cancel_handlers` cancels a handler whose client has disconnected: right for an inference server, wrong for the api,
    which has to finish a request that it has started. `stop_timeout_s` is how long open requests may still take. A
    connection that sends no complete request head within `idle_timeout_s` is closed, even while it still sends.

    Raises:
        Misconfigured: it cannot listen on the address.
    """
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    # it logs only the subprotocols that a client offers, and one of them may be a ticket
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=cancel_handlers,
        shutdown_timeout=stop_timeout_s,
        # aiohttp 3.14 counts from the connection and from each answer: half a head does not extend it
        keepalive_timeout=idle_timeout_s,
        max_line_size=MAX_HEAD_FIELD,
        max_field_size=MAX_HEAD_FIELD,
        max_headers=MAX_HEADERS,
        lingering_time=LINGERING_S,
        auto_decompress=False,  # a small body must not unpack into a large one; no route accepts compression
    )
    await runner.setup()
    try:
        yield await _listen(runner, host, port)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> int:
    try:
        # reuse_port stays off: a second api on the same port must fail
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        raise Misconfigured(f"{host}:{port} {reason}", code="address_in_use") from error
    bound_port: int = runner.addresses[0][1]
    return bound_port


def _is_ours(record: logging.LogRecord) -> bool:
    """Drop aiohttp's traceback of a malformed request: it is noise, and may quote a header with a token."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http_exceptions.HttpProcessingError)
