"""Protection against pages of other hosts in the browsers of users: security headers, CORS, Origin, Host.

A page of another host can make its visitor's browser send requests here. Only a page of a host in CORS_ORIGINS may
read answers, change anything or open a websocket. A request for a host name that is not in ALLOWED_HOSTS (DNS
rebinding) is refused; without identity on loopback, these are the names of this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from yarl import URL

from common.domain.errors import Forbidden
from common.runtime.addresses import LOOPBACK, host_of, is_allowed_host
from common.runtime.settings import Settings
from services.api.context import CONTEXT
from services.api.middleware.client_address import client_of

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = "GET, HEAD, POST, PATCH, DELETE"
# those that OpenAI's SDK adds to each request are among them
_REQUEST_HEADERS: Final = (
    "Authorization, Content-Type, Idempotency-Key, Prefer, Range, traceparent, api-key, OpenAI-Organization, "
    "OpenAI-Project, X-Stainless-Arch, X-Stainless-Async, X-Stainless-Lang, X-Stainless-OS, "
    "X-Stainless-Package-Version, X-Stainless-Read-Timeout, X-Stainless-Retry-Count, X-Stainless-Runtime, "
    "X-Stainless-Runtime-Version, X-Stainless-Timeout"
)
_EXPOSED_HEADERS: Final = (
    "ETag, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, X-Should-Retry"
)
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
    hosts = [request.host, *filter(None, [client_of(request).host])]
    _require_allowed(hosts, settings)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return await handler(request)
    is_allowed = origin in settings.cors_origins
    if is_allowed and request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return web.Response(status=204, headers=_preflight())
    changes = request.method not in _SAFE or hdrs.UPGRADE in request.headers
    if changes and not is_allowed and not _is_own(origin, hosts, settings):
        raise Forbidden("the origin of this page is not in CORS_ORIGINS", code="origin_not_allowed")
    return await handler(request)


async def protect(request: web.Request, response: web.StreamResponse) -> None:
    """Signal `on_response_prepare`: add the headers to every response, also to files and websockets."""
    for name, value in _RESPONSE_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[hdrs.SERVER] = "darkroom"  # the versions of the software are not published
    settings = request.app[CONTEXT].settings
    named = settings.cors_origins
    if not named:
        return
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    if request.headers.get(hdrs.ORIGIN) in named:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
    if request.path.removeprefix(settings.base_path).startswith("/media/"):
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"  # an `<img>` of such a page


def _preflight() -> dict[str, str]:
    return {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS,
        hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _REQUEST_HEADERS,
        hdrs.ACCESS_CONTROL_MAX_AGE: _PREFLIGHT_S,
    }


def _require_allowed(hosts: Sequence[str], settings: Settings) -> None:
    """Both Host and what a trusted proxy says: a proxy that does not set X-Forwarded-Host passes on any."""
    allowed = settings.allowed_hosts
    if not allowed:
        if settings.has_identity or settings.api_host not in LOOPBACK:
            return
        allowed = tuple(LOOPBACK)
    public = host_of(urlsplit(settings.public_url).netloc) if settings.public_url else None
    for host in hosts:
        if not is_allowed_host(host, {*allowed, *filter(None, [public])}):
            raise Forbidden(f"the host {host[:100]!r} is not in ALLOWED_HOSTS", code="host_not_allowed")


def _is_own(origin: str, hosts: Sequence[str], settings: Settings) -> bool:
    """Compare host and port; a proxy in front may use another scheme."""
    page = _url(origin)
    # pages of desktop shells have a host too: tauri://localhost is not http://localhost
    if page.scheme not in {"http", "https"} or not page.host:
        return False
    own = [settings.public_url] if settings.public_url else []
    here = [_url(url) for url in [*own, *(f"{page.scheme}://{host}" for host in hosts)]]
    return any((page.host, page.port) == (url.host, url.port) for url in here)


def _url(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        return URL()
