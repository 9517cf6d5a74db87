"""Counts every request and measures its duration, by the template of its route and its status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from common.runtime import metrics
from common.runtime.tracing.http import route_of
from services.api.context import CONTEXT


@web.middleware
async def request_metrics(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The outermost middleware, so that problems are counted by their status."""
    clock, settings = request.app[CONTEXT].clock, request.app[CONTEXT].settings
    started_s = clock.monotonic()
    response = await handler(request)
    route = route_of(request, settings.base_path) or "none"
    duration_s = clock.monotonic() - started_s
    # no invented method: an attacker could create any number
    method = request.method if request.method in hdrs.METH_ALL else "other"
    metrics.requests.labels(method, route, response.status).observe(duration_s)
    return response
