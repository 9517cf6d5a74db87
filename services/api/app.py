"""The api as an aiohttp application: the table of routes, and what happens to every request around its handler."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from common.errors import Invalid
from services.api import contract, files, generations, health, images, offers, pages, websocket
from services.api.context import CONTEXT, Call, Context, Operation
from services.api.measured import measured
from services.api.problems import problems
from services.api.requests import read_body, read_query

log = logging.getLogger(__name__)

ROUTES: Final[list[Operation]] = [
    *generations.OPERATIONS,
    *images.OPERATIONS,
    *files.OPERATIONS,
    *websocket.OPERATIONS,
    *offers.OPERATIONS,
    *health.OPERATIONS,
]
OPERATIONS: Final = [*ROUTES, *contract.operations(ROUTES), *pages.OPERATIONS]
LOCAL: Final = "local"  # the one owner, where no identity is set up
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(context: Context) -> web.Application:
    """Both `/path` and `/path/` are served, without a redirect."""
    app = web.Application(middlewares=[measured, problems], client_max_size=context.settings.max_body_size)
    app[CONTEXT] = context
    app[websocket.SOCKETS] = {}
    app[pages.PAGES] = pages.read_pages(context.settings.media_prefix)
    app.on_shutdown.append(_release)
    app.on_shutdown.append(websocket.close_all)
    # history before {id}: the first route that matches is taken
    for operation in OPERATIONS:
        handler = _handler(operation)
        for path in _spellings(operation.path):
            app.router.add_route(operation.method, path, handler)
    return app


async def _release(app: web.Application) -> None:
    app[CONTEXT].live.release()


def _spellings(path: str) -> list[str]:
    if path.startswith("/media/"):
        return [path]
    bare = path.rstrip("/")
    return [bare, f"{bare}/"] if bare else ["/"]


def _handler(operation: Operation) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        if operation.query is None and operation.body is None and request.can_read_body:
            await _drain(request)
        call = Call(
            request=request,
            context=context,
            owner=LOCAL,
            query=read_query(request, operation.query) if operation.query else None,
            body=await read_body(request, operation.body, timeout_s=context.settings.body_timeout)
            if operation.body
            else None,
        )
        return await operation.handle(call)

    return handle


async def _drain(request: web.Request) -> None:
    """A body where none is taken is passed over, unless it is large."""
    try:
        await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Invalid("no body is taken here", code="body_too_large") from error
