"""The api as an aiohttp application: the table of routes, and what happens to every request around its handler."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from services.api.auth.identity import Caller
from services.api.context import CONTEXT, Call, Context, Operation
from services.api.middleware.browser_security import browser_security, protect
from services.api.middleware.problems import problems
from services.api.middleware.request_metrics import request_metrics
from services.api.routes import (
    contract,
    docs_page,
    generations,
    health,
    images,
    media,
    models,
    static,
    tickets,
    websocket,
)
from services.api.routes.parsing import drain, read_body, read_query, require_json_wanted

log = logging.getLogger(__name__)

ROUTES: Final[list[Operation]] = [
    *generations.OPERATIONS,
    *images.OPERATIONS,
    *media.OPERATIONS,
    *websocket.OPERATIONS,
    *tickets.OPERATIONS,
    *models.OPERATIONS,
    *health.OPERATIONS,
]
OPERATIONS: Final = [*ROUTES, *contract.operations(ROUTES), *static.OPERATIONS, *docs_page.OPERATIONS]
NO_CALLER: Final = Caller("")  # owns nothing: an owner's name is never empty
RouteHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(context: Context) -> web.Application:
    """Both `/path` and `/path/` are served, without a redirect."""
    app = web.Application(
        middlewares=[request_metrics, problems, browser_security], client_max_size=context.settings.max_body_size
    )
    app[CONTEXT] = context
    app[websocket.SOCKETS] = {}
    app[static.PAGES] = static.read_pages(context.settings.media_prefix)
    app.on_response_prepare.append(protect)
    app.on_shutdown.append(_release)
    app.on_shutdown.append(websocket.close_all)
    # history before {id}: the first route that matches is taken
    for operation in OPERATIONS:
        handler = _handler(operation)
        for path in _spellings(operation.path):
            app.router.add_route(operation.method, path, handler)
            if operation.method == "GET" and operation.instead_of_header != "ticket":
                app.router.add_route("HEAD", path, handler)
    return app


async def _release(app: web.Application) -> None:
    app[CONTEXT].live.release()


def _spellings(path: str) -> list[str]:
    if path.startswith("/media/"):
        return [path]
    bare = path.rstrip("/")
    return [bare, f"{bare}/"] if bare else ["/"]


def _handler(operation: Operation) -> RouteHandler:
    async def handle(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        is_signed = operation.instead_of_header == "signature" and context.signing.allows(request)
        caller = NO_CALLER if operation.is_public or is_signed else await _caller(operation, request, context)
        if operation.gives_json:
            require_json_wanted(request)
        if operation.body is None:
            await drain(request, timeout_s=context.settings.body_timeout)
        call = Call(
            request=request,
            context=context,
            caller=caller,
            is_signed=is_signed,
            query=read_query(request, operation.query) if operation.query else None,
            body=await read_body(request, operation.body, timeout_s=context.settings.body_timeout)
            if operation.body
            else None,
        )
        return await operation.handle(call)

    return handle


async def _caller(operation: Operation, request: web.Request, context: Context) -> Caller:
    """By the header; by a ticket only where none is sent, so that a bad header is never made good by it."""
    if operation.instead_of_header == "ticket" and "Authorization" not in request.headers and context.identity.is_on:
        return await tickets.redeem(request, context)
    return await context.identity.caller(request)
