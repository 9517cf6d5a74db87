"""All services in one process, with nothing to install: what `darkroom up` and `make run` run.

The generator still reaches the reference inference server over loopback HTTP, so it is the same code as at scale.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.application.resources import Resources
from common.domain.images import new_image_id
from common.messages import Tick
from common.runtime.settings import Settings
from services.api.service import api_running
from services.generator.worker import run_generator
from services.janitor.worker import run_janitor
from services.standalone import inference_running, opened


async def up(settings: Settings, stopping: asyncio.Event, on_ready: Callable[[str], None]) -> None:
    """Run until `stopping` is set; `on_ready` is called once, with the URL to open.

    Stops in order: no new work, what is in hand finished or given back, clients told, bus and store closed.
    """
    async with (
        opened(settings, name="up") as resources,
        _inference(settings) as inference_url,
        api_running(settings, resources, inference_url=inference_url) as port,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(run_generator(settings, resources, inference_url=inference_url, stopping=stopping))
        group.create_task(run_janitor(settings, resources, stopping=stopping))
        await _take_up_what_was_left(resources)
        on_ready(f"http://{settings.api_host}:{port}")


async def _take_up_what_was_left(resources: Resources) -> None:
    # a bus in memory starts empty: what an earlier process accepted is sent again now, not at the first timer
    now = resources.clock.now()
    await resources.bus.tick(Tick(id=new_image_id(now), source="up", type="timer.reconcile", time=now))


@asynccontextmanager
async def _inference(settings: Settings) -> AsyncIterator[str]:
    if settings.inference_service_url is not None:
        yield settings.inference_service_url
        return
    async with inference_running(settings, host="127.0.0.1") as url:
        yield url
