"""The janitor as a service: its timers and its queues, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial

from common.application.resources import Resources
from common.bus.port import Handler, WorkQueue
from common.runtime.settings import Settings
from services.janitor.agreement import Agreement
from services.janitor.context import SOURCE, JanitorContext
from services.janitor.orders import cancel, fail_dead_letter
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from services.janitor.sweep import sweep
from services.janitor.timers import Timer

log = logging.getLogger(__name__)

CANCELS_AT_ONCE = 10


async def run_janitor(settings: Settings, resources: Resources, *, stopping: asyncio.Event) -> None:
    """Work until `stopping` is set; a run that is cut short is taken up by another janitor, or by the next tick."""
    context = JanitorContext(
        bus=resources.bus,
        store=resources.store,
        media=resources.media,
        outbox=resources.outbox(settings, source=SOURCE),
        settings=settings,
        clock=resources.clock,
    )
    timers = [
        Timer(WorkQueue.RECONCILE, settings.reconcile_interval, reconcile, context, Agreement()),
        Timer(WorkQueue.PURGE, settings.purge_interval, purge, context),
        Timer(WorkQueue.SWEEP, settings.sweep_interval, sweep, context),
    ]
    work: list[tuple[WorkQueue, Handler, int]] = [
        *((each.queue, each.handle, 1) for each in timers),
        (WorkQueue.CANCEL, partial(cancel, context=context), CANCELS_AT_ONCE),
        (WorkQueue.DEAD, partial(fail_dead_letter, context=context), 1),
    ]
    async with AsyncExitStack() as stack:
        consumers = [
            await stack.enter_async_context(resources.bus.consume(queue, handler, concurrency=concurrency))
            for queue, handler, concurrency in work
        ]
        async with asyncio.TaskGroup() as group:
            arming = [group.create_task(each.keep_armed()) for each in timers]
            log.info("taking ticks")
            await stopping.wait()
            for task in arming:
                task.cancel()
        await asyncio.gather(*(consumer.drain(settings.grace_period) for consumer in consumers))
