"""What browsers are told, and what is asked of the pages that they run: security headers, CORS, Origin and Host.

A page of another host can make its visitor's browser send requests here. So: it may read an answer only where it is
named in CORS_ORIGINS; it may change nothing and open no websocket otherwise; and where there is no identity, a name
that was bent to this address (DNS rebinding) is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from yarl import URL

from common.domain.errors import Forbidden
from common.runtime.settings import Settings
from services.api.auth.identity import LOOPBACK
from services.api.context import CONTEXT

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = "GET, HEAD, POST, PATCH, DELETE"
_ASKED: Final = "Authorization, Content-Type, Idempotency-Key, Prefer, Range, traceparent"
_SHOWN: Final = "ETag, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After"
_PREFLIGHT_S: Final = "600"
# an answer of an api is no page: nothing in it may load, run, or be framed. A page brings a policy of its own.
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@web.middleware
async def browser_security(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse what a foreign page must not do; answer the question (preflight) of one that may."""
    settings = request.app[CONTEXT].settings
    _require_own_name(request, settings)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return await handler(request)
    is_named = origin in settings.cors_origins
    if is_named and request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return web.Response(status=204, headers=_preflight())
    changes = request.method not in _SAFE or hdrs.UPGRADE in request.headers
    if changes and not is_named and not _is_same(origin, request):
        raise Forbidden("this page's host is not in CORS_ORIGINS", code="origin_not_allowed")
    return await handler(request)


async def protect(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: every response, those of files and websockets too, gets its headers."""
    for name, value in _ALWAYS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "darkroom"  # which versions serve is nobody's business
    named = request.app[CONTEXT].settings.cors_origins
    if not named:
        return
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if request.headers.get(hdrs.ORIGIN) in named:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _SHOWN
    if request.path.startswith("/media/"):
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # an `<img>` of such a page


def _preflight() -> dict[str, str]:
    return {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _ASKED,
        hdrs.ACCESS_CONTROL_MAX_AGE: _PREFLIGHT_S,
    }


def _require_own_name(request: web.Request, settings: Settings) -> None:
    if settings.has_identity or settings.api_host not in LOOPBACK:
        return
    if _url("http", request.host).host not in LOOPBACK:
        raise Forbidden("without identity, only this machine's own names are answered to", code="host_not_allowed")


def _is_same(origin: str, request: web.Request) -> bool:
    """By host and port; the scheme may be that of a proxy before us."""
    try:
        page = URL(origin)
    except ValueError:
        return False
    here = _url(page.scheme, request.host)
    return bool(page.host) and (page.host, page.port) == (here.host, here.port)


def _url(scheme: str, host: str) -> URL:
    try:
        return URL(f"{scheme}://{host}")
    except ValueError:
        return URL()
