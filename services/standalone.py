"""One service as a process of its own; the processes share a broker, a store and a media folder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from common.application.health import build_health_app
from common.application.resources import Resources
from common.domain.errors import Misconfigured
from common.runtime.serving import serving
from common.runtime.settings import Settings
from services import wiring

log = logging.getLogger(__name__)


async def api(settings: Settings, stopping: asyncio.Event) -> None:
    from services.api.service import run_api

    async with _shared_resources(settings, stopping, name="api") as resources:
        await run_api(settings, resources, stopping=stopping)


async def generator(settings: Settings, stopping: asyncio.Event) -> None:
    from services.generator.backends.backend import require_valid
    from services.generator.backends.configured import configured_backends
    from services.generator.worker import run_generator

    backends = configured_backends(settings)
    if not backends:
        raise Misconfigured(
            "INFERENCE_SERVICE_URL: not set; give the URL of the inference service, or a file in BACKENDS",
            code="bad_setting",
        )
    await require_valid(backends, settings)
    async with _shared_resources(settings, stopping, name="generator") as resources, _health(settings, resources):
        await run_generator(settings, resources, backends=backends, stopping=stopping)


async def janitor(settings: Settings, stopping: asyncio.Event) -> None:
    from services.janitor.worker import run_janitor

    async with _shared_resources(settings, stopping, name="janitor") as resources, _health(settings, resources):
        await run_janitor(settings, resources, stopping=stopping)


async def webhooks(settings: Settings, stopping: asyncio.Event) -> None:
    from services.webhooks.worker import run_webhooks

    async with _shared_resources(settings, stopping, name="webhooks") as resources, _health(settings, resources):
        await run_webhooks(settings, resources, stopping=stopping)


async def inference(settings: Settings, stopping: asyncio.Event) -> None:
    async with wiring.serve_inference(settings, host=settings.inference_host) as url:
        log.info("painting at %s", url)
        await stopping.wait()


@asynccontextmanager
async def _shared_resources(settings: Settings, stopping: asyncio.Event, *, name: str) -> AsyncIterator[Resources]:
    if settings.bus_url.startswith("memory:"):
        raise Misconfigured(
            "BUS_URL: memory:// is a bus within one process; set amqp://…, or run all services with `darkroom up`",
            code="bad_setting",
        )
    async with wiring.open_resources(settings, name=name, stopping=stopping) as resources:
        yield resources


@asynccontextmanager
async def _health(settings: Settings, resources: Resources) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if settings.health_port:
            app = build_health_app(
                bus=resources.bus,
                store=resources.store,
                media=resources.media,
                allowed_hosts=wiring.server_names(settings, host=settings.health_host),
            )
            await stack.enter_async_context(
                serving(app, host=settings.health_host, port=settings.health_port, stop_timeout_s=1)
            )
        yield
