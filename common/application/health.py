"""Health of a service: liveness, readiness, metrics.

Readiness is built from named checks. They run at the same time, and a check that does not answer in time counts as
failed, so `/readyz` always answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client.aiohttp import make_aiohttp_handler

from common.bus.port import Bus
from common.domain.errors import Unavailable
from common.media.port import Media
from common.runtime.addresses import host_of, is_allowed_host, is_ip
from common.store.port import Store

CHECK_TIMEOUT_S: Final = 6.0  # above STORE_TIMEOUT's default, so that the store's own reason is reported

Check = Callable[[], Awaitable[str | None]]  # the reason why a part is not ready, or None; may raise Unavailable


async def unready_reasons(
    bus: Bus, checks: Mapping[str, Check], *, timeout_s: float = CHECK_TIMEOUT_S
) -> dict[str, str]:
    """Why this process cannot work, by the name of the part; empty if it is ready."""
    reasons = await asyncio.gather(*(_reason(check, timeout_s) for check in checks.values()))
    found = {"bus": bus.unready_reason, **dict(zip(checks, reasons, strict=True))}
    return {name: reason for name, reason in found.items() if reason}


def build_report(reasons: Mapping[str, str], *, warning: str = "") -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body of a health answer; a warning of the bus changes no status."""
    body = {"status": "unavailable" if reasons else "ok", "trouble": dict(reasons)}
    return (503 if reasons else 200), body | ({"warnings": {"bus": warning}} if warning else {})


def build_health_app(*, bus: Bus, store: Store, media: Media, allowed_hosts: Collection[str] = ()) -> web.Application:
    """`/healthz` answers while the process runs; `/readyz` answers 503 with the reasons while it cannot work.

    `allowed_hosts` are the names of this server (`is_allowed_host`), besides its addresses; empty allows any.
    """

    async def alive(_request: web.Request) -> web.Response:
        return _answer({})

    async def ready(_request: web.Request) -> web.Response:
        checks = {"store": store.check, "media": media.check}
        return _answer(await unready_reasons(bus, checks), warning=bus.warning)

    app = web.Application(middlewares=[_only_hosts(allowed_hosts)])
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", make_aiohttp_handler())
    return app


def _only_hosts(allowed: Collection[str]) -> Middleware:
    """Refuse the names of other hosts (DNS rebinding). Probes and scrapers use addresses, which no such page has."""

    @web.middleware
    async def only_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_address = is_ip(host_of(request.host) or "")
        if allowed and not is_address and not is_allowed_host(request.host, allowed):
            raise web.HTTPForbidden(text="the host is not in ALLOWED_HOSTS")
        return await handler(request)

    return only_hosts


def _answer(reasons: dict[str, str], *, warning: str = "") -> web.Response:
    status, body = build_report(reasons, warning=warning)
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")


async def _reason(check: Check, timeout_s: float) -> str | None:
    try:
        async with asyncio.timeout(timeout_s):
            return await check()
    except Unavailable as error:
        return error.detail
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
