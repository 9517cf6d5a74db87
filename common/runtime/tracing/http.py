"""Traces over HTTP.

A server makes spans of its requests; a client sends the header `traceparent`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from common.domain.texts import clean_traceparent
from common.runtime.tracing.spans import SpanKind, current_traceparent, is_on, span_of_message

TRACEPARENT: Final = "traceparent"


def header_traceparent(request: web.Request) -> str | None:
    """The `traceparent` of a request; None if it is missing, malformed or there are several (W3C Trace Context)."""
    values = request.headers.getall(TRACEPARENT, [])
    return clean_traceparent(values[0]) if len(values) == 1 else None


def request_traceparent(request: web.Request) -> str | None:
    """What continues the trace of a request: its span if traces are on, else the span of the client."""
    return current_traceparent() or header_traceparent(request)


def route_of(request: web.Request, base_path: str) -> str:
    """The template of the route; empty if there is none. It is never the path, of which anybody can make any number."""
    resource = request.match_info.route.resource
    return (resource.canonical.removeprefix(base_path) or "/") if resource is not None else ""


def traced_requests(*, base_path: str = "", untraced: Collection[str] = ()) -> Middleware:
    """A middleware that makes a span of each request, except to the `untraced` routes and to no route at all.

    A websocket has none: it would last for hours.
    """

    @web.middleware
    async def trace_request(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        route = route_of(request, base_path)
        if not is_on() or not route or route in untraced or hdrs.UPGRADE in request.headers:
            return await handler(request)
        attributes = {"http.request.method": request.method, "http.route": route, "url.scheme": request.scheme}
        with span_of_message(
            f"{request.method} {route}", SpanKind.SERVER, attributes, traceparent=header_traceparent(request)
        ) as span:
            try:
                response = await handler(request)
            except web.HTTPException as answer:
                response = answer
            span.set("http.response.status_code", response.status)
            if response.status >= 500:
                span.fail(str(response.status))
        if isinstance(response, web.HTTPException):
            raise response
        return response

    return trace_request


def client_tracing() -> list[aiohttp.TraceConfig]:
    """What gives each request of a client session the current `traceparent`; nothing if traces are off."""
    if not is_on():
        return []
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_add_traceparent)
    return [config]


async def _add_traceparent(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, started: aiohttp.TraceRequestStartParams
) -> None:
    if traceparent := current_traceparent():
        started.headers[TRACEPARENT] = traceparent
