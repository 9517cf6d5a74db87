"""An aiohttp application as a context manager: it listens inside, and is closed in order after."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from common.errors import Misconfigured


@asynccontextmanager
async def serving(
    app: web.Application, *, host: str, port: int, stop_timeout_s: float, cancel_handlers: bool = False
) -> AsyncIterator[int]:
    """Serve the application; yields the port it listens on.

    `cancel_handlers` cancels a handler whose client has gone: right for an inference server, wrong for the api, where
    an order once begun is finished. `stop_timeout_s` is what requests in flight may still take.

    Raises:
        Misconfigured: the address cannot be listened on.
    """
    runner = web.AppRunner(app, access_log=None, handler_cancellation=cancel_handlers, shutdown_timeout=stop_timeout_s)
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
