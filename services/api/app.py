"""The aiohttp application of the api: its routes with all that surrounds a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from common.domain.errors import Invalid, NotFound
from common.runtime.tracing.http import traced_requests
from services.api.archives import routes as archives
from services.api.auth.identity import Caller
from services.api.context import CONTEXT, Context
from services.api.history import routes as history
from services.api.middleware.browser_security import browser_security, protect
from services.api.middleware.compression import compressed
from services.api.middleware.problems import problems
from services.api.middleware.request_ids import identify, show_request_id
from services.api.middleware.request_metrics import request_metrics
from services.api.middleware.request_reading import require_json_accepted
from services.api.openai import generations as openai_generations
from services.api.openai import models as openai_models
from services.api.openai.errors import envelopes
from services.api.routes import contracts, generations, health, images, media, models, pages, tickets, websocket
from services.api.routes.operation import B, Call, G, Operation, Q, RouteGroup
from services.api.sharing import routes as sharing
from services.api.sharing import visits
from services.api.status import routes as status

_REST: Final[list[RouteGroup[Any]]] = [
    generations.GROUP,
    history.GROUP,
    images.GROUP,
    media.GROUP,
    archives.GROUP,
    sharing.GROUP,
    visits.GROUP,
    websocket.GROUP,
    tickets.GROUP,
    models.GROUP,
    health.GROUP,
    openai_generations.GROUP,
    openai_models.GROUP,
    status.GROUP,
]
ROUTES: Final = [operation for group in _REST for operation in group.operations]
GROUPS: Final = [*_REST, contracts.group_for(ROUTES), pages.GROUP]
OPERATIONS: Final = [operation for group in GROUPS for operation in group.operations]
NO_CALLER: Final = Caller("")  # owns nothing: an owner's name is never empty
RouteHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(context: Context) -> web.Application:
    """Both `/path` and `/path/` are served, without a redirect."""
    app = web.Application(
        middlewares=[
            identify,
            traced_requests(base_path=context.settings.base_path, untraced=_UNTRACED),
            request_metrics,
            problems,
            envelopes,
            browser_security,
        ],
        client_max_size=context.settings.max_body_size,
    )
    app[CONTEXT] = context
    app.on_response_prepare.append(protect)
    app.on_response_prepare.append(show_request_id)
    app.on_shutdown.append(_close_clients)
    for group in GROUPS:
        _add_group(app, group, context)
    return app


def _spellings(path: str) -> list[str]:
    if path.startswith("/media/"):
        return [path]
    bare = path.rstrip("/")
    return [bare, f"{bare}/"] if bare else ["/", ""]


# what probes ask and what pages load is no work that a trace explains
_UNTRACED: Final = frozenset(
    spelling
    for group in (health.GROUP, pages.GROUP)
    for operation in group.operations
    for spelling in _spellings(operation.path)
)


async def _close_clients(app: web.Application) -> None:
    app[CONTEXT].waits.release()
    await app[CONTEXT].clients.close_all()


def _add_group(app: web.Application, group: RouteGroup[G], context: Context) -> None:
    # in the order of the operations: the first route that matches is used
    routes = group.build(context)
    # a proxy may strip the path of PUBLIC_URL, or pass it on
    prefixes = dict.fromkeys(["", context.settings.base_path])
    for operation in group.operations:
        handler = _handler(operation, routes, context)
        for path in filter(None, [prefix + path for prefix in prefixes for path in _spellings(operation.path)]):
            app.router.add_route(operation.method, path, handler)
            if operation.method == "GET" and operation.other_credential != "ticket":
                app.router.add_route("HEAD", path, handler)


def _handler(operation: Operation[G, Q, B], routes: G, context: Context) -> RouteHandler:
    is_off = operation.needs is not None and not getattr(context.settings, operation.needs)

    async def handle(request: web.Request) -> web.StreamResponse:
        if is_off:
            raise NotFound(f"{str(operation.needs).upper()} is off", code=f"{operation.needs}_off")
        is_signed = operation.other_credential == "signature" and context.signing.allows(request)
        caller = NO_CALLER if operation.is_public or is_signed else await _caller(operation, request, context)
        if operation.gives_json:
            require_json_accepted(request)
        try:
            query, body = await operation.input.read(request, timeout_s=context.settings.body_timeout)
        except Invalid as error:
            raise error if operation.explain is None else operation.explain(error, request) from error
        response = await operation.handle(routes, Call(request, caller, query, body, is_signed))
        return compressed(request, response)

    return handle


async def _caller(operation: Operation[G, Q, B], request: web.Request, context: Context) -> Caller:
    """By the header. A ticket is accepted only without a header: it must not make up for an invalid one."""
    accepts_ticket = operation.other_credential == "ticket" and context.identity.is_on
    if accepts_ticket and "Authorization" not in request.headers:
        return await context.tickets.redeem(request)
    if operation.other_credential == "api-key":
        return await context.identity.caller(request, other_header="api-key")
    return await context.identity.caller(request)
