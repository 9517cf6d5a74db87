"""One service by itself, as a process among others: its parts opened by the settings' URLs, and its health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from common.application.deployment import deployment_id
from common.application.health import build_health_app
from common.application.resources import Resources
from common.bus.connect import open_bus
from common.domain.errors import Misconfigured, Unavailable
from common.media.connect import open_media
from common.runtime.clock import SystemClock
from common.runtime.serving import serving
from common.runtime.settings import Settings
from common.store.connect import open_store
from common.store.port import Store

log = logging.getLogger(__name__)


@asynccontextmanager
async def opened(settings: Settings, *, name: str) -> AsyncIterator[Resources]:
    """Open store, media and bus; they are closed in the other order, the store last."""
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


async def api(settings: Settings, stopping: asyncio.Event) -> None:
    from services.api.service import run_api

    _require_shared_bus(settings)
    async with opened(settings, name="api") as resources:
        await run_api(settings, resources, inference_url=settings.inference_service_url, stopping=stopping)


async def generator(settings: Settings, stopping: asyncio.Event) -> None:
    from services.generator.worker import run_generator

    _require_shared_bus(settings)
    if settings.inference_service_url is None:
        raise Misconfigured("INFERENCE_SERVICE_URL: where the inference service is; not set", code="bad_setting")
    async with opened(settings, name="generator") as resources, _health(settings, resources):
        await run_generator(settings, resources, inference_url=settings.inference_service_url, stopping=stopping)


async def janitor(settings: Settings, stopping: asyncio.Event) -> None:
    from services.janitor.worker import run_janitor

    _require_shared_bus(settings)
    async with opened(settings, name="janitor") as resources, _health(settings, resources):
        await run_janitor(settings, resources, stopping=stopping)


async def inference(settings: Settings, stopping: asyncio.Event) -> None:
    async with inference_running(settings, host=settings.inference_host) as url:
        log.info("painting at %s", url)
        await stopping.wait()


@asynccontextmanager
async def inference_running(settings: Settings, *, host: str) -> AsyncIterator[str]:
    """The reference inference server; yields its base URL."""
    from services.inference.app import build_app
    from services.inference.painter import PainterEngine

    app = build_app(
        PainterEngine(step_delay_s=settings.painter_step_delay),
        api_key=settings.inference_service_api_key,
        concurrency=settings.inference_concurrency,
        clock=SystemClock(),
    )
    # a client that has gone stops the work, so its handler is cancelled
    async with serving(
        app, host=host, port=settings.inference_port, stop_timeout_s=settings.grace_period, cancel_handlers=True
    ) as port:
        yield f"http://{host}:{port}"


@asynccontextmanager
async def _health(settings: Settings, resources: Resources) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if settings.health_port:
            app = build_health_app(bus=resources.bus, store=resources.store)
            await stack.enter_async_context(
                serving(app, host=settings.health_host, port=settings.health_port, stop_timeout_s=1)
            )
        yield


def _require_shared_bus(settings: Settings) -> None:
    if settings.bus_url.startswith("memory:"):
        raise Misconfigured(
            "BUS_URL: memory:// reaches this process only; give amqp://…, or run everything in one with `darkroom up`",
            code="bad_setting",
        )
