"""Protection against pages of other hosts in the browsers of users: security headers, CORS, Origin, Host.

A page of another host can make its visitor's browser send requests here. Only a page of a host in CORS_ORIGINS may
read answers, change anything or open a websocket. Without identity, a request for another host name than that of this
machine (DNS rebinding) is refused.
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
_REQUEST_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, Prefer, Range, traceparent"
_EXPOSED_HEADERS: Final = "ETag, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After"
_PREFLIGHT_S: Final = "600"
# an answer of the api may not load, run or be framed. The HTML pages set a policy of their own.
_RESPONSE_HEADERS: Final = {
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
    """Refuse what pages of other hosts must not do; answer the preflight of those that may."""
    settings = request.app[CONTEXT].settings
    _require_own_host(request, settings)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return await handler(request)
    is_allowed = origin in settings.cors_origins
    if is_allowed and request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return web.Response(status=204, headers=_preflight())
    changes = request.method not in _SAFE or hdrs.UPGRADE in request.headers
    if changes and not is_allowed and not _is_same(origin, request):
        raise Forbidden("the origin of this page is not in CORS_ORIGINS", code="origin_not_allowed")
    return await handler(request)


async def protect(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: add the headers to every response, also to files and websockets."""
    for name, value in _RESPONSE_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "darkroom"  # the versions of the software are not published
    named = request.app[CONTEXT].settings.cors_origins
    if not named:
        return
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if request.headers.get(hdrs.ORIGIN) in named:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
    if request.path.startswith("/media/"):
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # an `<img>` of such a page


def _preflight() -> dict[str, str]:
    return {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _REQUEST_HEADERS,
        hdrs.ACCESS_CONTROL_MAX_AGE: _PREFLIGHT_S,
    }


def _require_own_host(request: web.Request, settings: Settings) -> None:
    if settings.has_identity or settings.api_host not in LOOPBACK:
        return
    if _url("http", request.host).host not in LOOPBACK:
        raise Forbidden("without identity, the host must be localhost or a loopback address", code="host_not_allowed")


def _is_same(origin: str, request: web.Request) -> bool:
    """Compare host and port; a proxy in front may use another scheme."""
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
