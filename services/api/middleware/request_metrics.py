"""Counts and times every request, by the template of its route and the status it got."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from common.runtime import metrics
from services.api.context import CONTEXT


@web.middleware
async def request_metrics(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Outermost, so that problems count as the status they are answered with."""
    clock = request.app[CONTEXT].clock
    began_s = clock.monotonic()
    response = await handler(request)
    resource = request.match_info.route.resource
    # the template, never the path: an attacker could make as many of those as he likes
    route = resource.canonical if resource is not None else "none"
    took_s = clock.monotonic() - began_s
    # nor a method that he made up
    method = request.method if request.method in hdrs.METH_ALL else "other"
    metrics.requests.labels(method, route, response.status).observe(took_s)
    return response
