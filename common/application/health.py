"""Health of a service that serves nothing else: alive, ready, and its metrics."""

from __future__ import annotations

import json

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from common.bus.port import Bus
from common.domain.errors import Unavailable
from common.store.port import Store


def build_health_app(*, bus: Bus, store: Store) -> web.Application:
    """`/healthz` answers while the process runs, `/readyz` with 503 and the reason while it can do no work."""

    async def alive(_request: web.Request) -> web.Response:
        return _answer({})

    async def ready(_request: web.Request) -> web.Response:
        return _answer(await _unready_reasons(bus, store), warning=bus.warning)

    app = web.Application()
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", make_aiohttp_handler())
    return app


async def _unready_reasons(bus: Bus, store: Store) -> dict[str, str]:
    """What keeps this process from working, by name; empty when it is ready."""
    found = {"bus": bus.unready_reason} if bus.unready_reason else {}
    try:
        await store.check()
    except Unavailable as error:
        found["store"] = error.detail
    return found


def _answer(reasons: dict[str, str], *, warning: str = "") -> web.Response:
    body: dict[str, object] = {"status": "unavailable" if reasons else "ok", "trouble": reasons}
    if warning:
        body["warnings"] = {"bus": warning}
    return web.Response(status=503 if reasons else 200, text=json.dumps(body), content_type="application/json")
