"""Alive, and ready: `/healthz` says that the process runs, `/readyz` whether it can be of use just now."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from common.application.health import build_report, unready_reasons
from services.api.context import Call, Operation, answer
from services.api.routes.schema import Health


async def alive(_call: Call) -> web.Response:
    """The process answers."""
    return answer(Health.model_validate(build_report({})[1]))


async def ready(call: Call) -> web.Response:
    """503 with what is missing, while bus, store, media or the event log cannot be used."""
    context = call.context

    async def events() -> str | None:
        return None if context.live.is_ready else "the event log is still being read"

    checks = {"events": events, "store": context.store.check, "media": context.media.check}
    status, report = build_report(await unready_reasons(context.bus, checks))
    return answer(Health.model_validate(report), status=status)


_metrics: Final = make_aiohttp_handler()


async def measures(call: Call) -> web.StreamResponse:
    """Prometheus' text format."""
    return await _metrics(call.request)


OPERATIONS: Final = [
    Operation("GET", "/healthz", alive, "Is it alive", answers={200: Health}, is_public=True),
    Operation("GET", "/metrics", measures, "Metrics", answers={200: None}, is_public=True, media_types=("text/plain",)),
    Operation("GET", "/readyz", ready, "Is it ready", answers={200: Health, 503: Health}, is_public=True),
]
