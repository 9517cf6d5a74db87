"""The health of the process: alive, ready, metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from common.application.health import build_report, unready_reasons
from common.bus.port import Bus
from common.media.port import Media
from common.store.port import Store
from services.api.context import Context
from services.api.events.live import LiveEvents
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup, answer
from services.api.routes.schema import Health

_metrics: Final = make_aiohttp_handler()


@dataclass(frozen=True, slots=True)
class HealthRoutes:
    bus: Bus
    store: Store
    media: Media
    live: LiveEvents

    @classmethod
    def of(cls, context: Context) -> HealthRoutes:
        return cls(context.bus, context.store, context.media, context.live)

    async def alive(self, _call: PlainCall) -> web.Response:
        """Answers 200 while the process runs."""
        return _report({})

    async def ready(self, _call: PlainCall) -> web.Response:
        """Answers 503 with the reasons while bus, store, media or event log cannot be used."""

        async def events() -> str | None:
            return None if self.live.is_ready else "the event log is still being read"

        checks = {"events": events, "store": self.store.check, "media": self.media.check}
        return _report(await unready_reasons(self.bus, checks), warning=self.bus.warning)

    async def metrics(self, call: PlainCall) -> web.StreamResponse:
        """Returns the metrics in the text format of Prometheus."""
        return await _metrics(call.request)


OPERATIONS: Final = (
    Operation(
        "health_alive",
        "GET",
        "/healthz",
        NO_INPUT,
        HealthRoutes.alive,
        "Check that the process runs",
        answers={200: Health},
        is_public=True,
    ),
    Operation(
        "health_measures",
        "GET",
        "/metrics",
        NO_INPUT,
        HealthRoutes.metrics,
        "Get the metrics",
        answers={200: None},
        is_public=True,
        media_types=("text/plain",),
    ),
    Operation(
        "health_ready",
        "GET",
        "/readyz",
        NO_INPUT,
        HealthRoutes.ready,
        "Check that the process can serve",
        answers={200: Health, 503: Health},
        is_public=True,
    ),
)
GROUP: Final = RouteGroup(HealthRoutes.of, OPERATIONS)


def _report(reasons: dict[str, str], *, warning: str = "") -> web.Response:
    status, report = build_report(reasons, warning=warning)
    return answer(Health.model_validate(report), status=status)
