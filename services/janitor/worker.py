"""The janitor as a service: its timers and its queues, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from common.bus.port import Bus, Handler, WorkQueue
from common.clock import Clock
from common.media.port import Media
from common.outbox import Outbox
from common.settings import Settings
from common.store.port import Store
from services.janitor.agreement import Agreement
from services.janitor.orders import bury_letter, cancel
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from services.janitor.sweep import sweep
from services.janitor.timers import Timer
from services.janitor.tools import SOURCE, Tools

log = logging.getLogger(__name__)

CANCELS_AT_ONCE = 10


async def run_janitor(
    settings: Settings, *, bus: Bus, store: Store, media: Media, clock: Clock, stopping: asyncio.Event
) -> None:
    """Work until `stopping` is set; a run that is cut short is taken up by another janitor, or by the next tick."""
    outbox = Outbox(
        bus=bus,
        store=store,
        clock=clock,
        source=SOURCE,
        media_url=settings.media_prefix,
        retention=timedelta(days=settings.retention_days),
    )
    tools = Tools(bus=bus, store=store, media=media, outbox=outbox, settings=settings, clock=clock)

    timers = [
        Timer(WorkQueue.RECONCILE, settings.reconcile_interval, reconcile, tools, Agreement()),
        Timer(WorkQueue.PURGE, settings.purge_interval, purge, tools),
        Timer(WorkQueue.SWEEP, settings.sweep_interval, sweep, tools),
    ]
    work: list[tuple[WorkQueue, Handler, int]] = [
        *((each.queue, each.handle, 1) for each in timers),
        (WorkQueue.CANCEL, partial(cancel, tools=tools), CANCELS_AT_ONCE),
        (WorkQueue.DEAD, partial(bury_letter, tools=tools), 1),
    ]
    async with AsyncExitStack() as stack:
        takings = [
            await stack.enter_async_context(bus.work(queue, handler, concurrency=concurrency))
            for queue, handler, concurrency in work
        ]
        async with asyncio.TaskGroup() as group:
            arming = [group.create_task(each.keep_armed()) for each in timers]
            log.info("taking ticks")
            await stopping.wait()
            for task in arming:
                task.cancel()
        await asyncio.gather(*(taking.drain(settings.grace_period) for taking in takings))
