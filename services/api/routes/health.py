"""Alive, and ready: `/healthz` says that the process runs, `/readyz` whether it can be of use just now."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from common.domain.errors import Unavailable
from services.api.context import Call, Operation, answer
from services.api.routes.schema import Health


async def alive(_call: Call) -> web.Response:
    """The process answers."""
    return answer(Health(status="ok", unready_reasons={}))


async def ready(call: Call) -> web.Response:
    """503 with what is missing, while bus, store, media or the event log cannot be used."""
    context = call.context
    reasons = {}
    if context.bus.unready_reason:
        reasons["bus"] = context.bus.unready_reason
    if not context.live.is_ready:
        reasons["events"] = "the event log is still being read"
    for name, check in (("store", context.store.check), ("media", context.media.check)):
        try:
            await check()
        except Unavailable as error:
            reasons[name] = error.detail
    return answer(
        Health(status="unavailable" if reasons else "ok", unready_reasons=reasons), status=503 if reasons else 200
    )


_metrics: Final = make_aiohttp_handler()


async def measures(call: Call) -> web.StreamResponse:
    """Prometheus' text format."""
    return await _metrics(call.request)


OPERATIONS: Final = [
    Operation("GET", "/healthz", alive, "Is it alive", answers={200: Health}, is_public=True),
    Operation("GET", "/metrics", measures, "Metrics", answers={200: None}, is_public=True, media_types=("text/plain",)),
    Operation("GET", "/readyz", ready, "Is it ready", answers={200: Health, 503: Health}, is_public=True),
]
