"""Wiring that the standalone services and the embedded mode share.

It opens the resources of a process by the URLs in the settings, and serves the reference inference server.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.application.deployment import deployment_id
from common.application.resources import Resources
from common.bus.connect import open_bus
from common.domain.errors import Unavailable
from common.media.connect import open_media
from common.runtime.clock import SystemClock
from common.runtime.serving import serving
from common.runtime.settings import Settings
from common.store.connect import open_store
from common.store.port import Store

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_resources(settings: Settings, *, name: str) -> AsyncIterator[Resources]:
    """Open store, media and bus for the service of this name; they are closed in reverse order, the store last."""
    clock = SystemClock()
    async with (
        open_store(settings.store_url, timeout_s=settings.store_timeout) as store,
        open_media(settings.media_root) as media,
        open_bus(settings, name=name, clock=clock, deployment=await _deployment(store)) as bus,
    ):
        yield Resources(bus, store, media, clock)


async def _deployment(store: Store) -> str | None:
    """The id of this deployment; None while the store is away, and then the bus does not compare it."""
    try:
        return await deployment_id(store)
    except Unavailable as error:
        log.warning("the deployment is not compared with that of the bus: %s", error)
        return None


@asynccontextmanager
async def serve_inference(settings: Settings, *, host: str) -> AsyncIterator[str]:
    """Serve the reference inference server; yields its base URL."""
    from services.inference.app import build_app  # only the processes that paint load Pillow
    from services.inference.painter import PainterEngine

    app = build_app(
        PainterEngine(step_delay_s=settings.painter_step_delay),
        api_key=settings.inference_service_api_key,
        concurrency=settings.inference_concurrency,
        clock=SystemClock(),
    )
    # a disconnected client cancels its handler, which stops the painting
    async with serving(
        app, host=host, port=settings.inference_port, stop_timeout_s=settings.grace_period, cancel_handlers=True
    ) as port:
        yield f"http://{host}:{port}"
