"""An aiohttp application as a context manager: it listens inside, and is closed in order after."""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import http_exceptions, web

from common.domain.errors import Misconfigured

IDLE_S: Final = 75.0  # longer than proxies keep a connection to us (nginx: 60 s), or they would meet a closed one
MAX_HEAD_FIELD: Final = 8190  # bytes of the request line, and of one header; a larger one is answered 400
MAX_HEADERS: Final = 64
LINGERING_S: Final = 2.0  # for the rest of a body that nobody reads


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

    `cancel_handlers` cancels a handler whose client has gone: right for an inference server, wrong for the api, where
    an order once begun is finished. `stop_timeout_s` is what requests in flight may still take. A connection that has
    sent no whole request head within `idle_timeout_s` is closed, however slowly it goes on sending one.

    Raises:
        Misconfigured: the address cannot be listened on.
    """
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=cancel_handlers,
        shutdown_timeout=stop_timeout_s,
        # aiohttp 3.14 counts it from the connection and from each answer: half a head does not push it out
        keepalive_timeout=idle_timeout_s,
        max_line_size=MAX_HEAD_FIELD,
        max_field_size=MAX_HEAD_FIELD,
        max_headers=MAX_HEADERS,
        lingering_time=LINGERING_S,
        auto_decompress=False,  # a small body must not unpack into a large one; none here is taken packed
    )
    await runner.setup()
    try:
        try:
            # reuse_port stays off: a second api on the port should hear that it is taken
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise Misconfigured(f"{host}:{port} {reason}", code="address_in_use") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _is_ours(record: logging.LogRecord) -> bool:
    """aiohttp logs what is no HTTP with a trace that quotes it: a stranger's noise, or a header with a token."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http_exceptions.HttpProcessingError)
