"""The embedded mode: all services in one process, as `darkroom up` runs them.

The generator still calls the reference inference server over loopback HTTP, so the code is the same as at scale.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from common.application.resources import Resources
from common.domain.images import new_image_id
from common.messages import Tick
from common.runtime.addresses import url_of
from common.runtime.settings import Settings
from services import wiring
from services.api.service import api_running
from services.generator.backends.backend import require_valid
from services.generator.backends.configured import backends_at, configured_backends
from services.generator.backends.definition import BackendDefinition
from services.generator.worker import run_generator
from services.janitor.worker import run_janitor
from services.webhooks.worker import run_webhooks


async def up(settings: Settings, stopping: asyncio.Event, on_ready: Callable[[str], None]) -> None:
    """Run until `stopping` is set; `on_ready` is called once, with the URL of the api.

    The stop has an order: no new work is taken, work in progress is finished or given back, websockets are closed,
    then bus and store.
    """
    async with (
        _backends(settings) as backends,
        wiring.open_resources(settings, name="up", stopping=stopping) as resources,
        api_running(settings, resources) as port,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(run_generator(settings, resources, backends=backends, stopping=stopping))
        group.create_task(run_janitor(settings, resources, stopping=stopping))
        group.create_task(run_webhooks(settings, resources, stopping=stopping))
        await _reconcile_now(resources)
        on_ready(url_of(settings.api_host, port))


async def _reconcile_now(resources: Resources) -> None:
    # a bus in memory starts empty: the commands of an earlier process are sent again now, not at the first timer
    now = resources.clock.now()
    await resources.bus.tick(Tick(id=new_image_id(now), source="up", type="timer.reconcile", time=now))


@asynccontextmanager
async def _backends(settings: Settings) -> AsyncIterator[Sequence[BackendDefinition]]:
    """The configured back ends, or else the reference server."""
    if configured := configured_backends(settings):
        await require_valid(configured, settings)
        yield configured
        return
    async with wiring.serve_inference(settings, host="127.0.0.1") as url:
        yield backends_at([url], settings)
