"""The janitor as a service: it runs its timers and consumes its queues until it is stopped."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial

from common.application.resources import Resources
from common.bus.port import Handler, WorkQueue
from common.messages import TickData
from common.runtime.settings import Settings
from services.janitor.cancel import cancel
from services.janitor.checkpoint import keep_checkpoint
from services.janitor.clock_comparison import ClockComparison
from services.janitor.context import SOURCE, JanitorContext
from services.janitor.dead_letters import fail_dead_letter
from services.janitor.gathering import FigureGatherer
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from services.janitor.search_index import index_old_images
from services.janitor.sweep import sweep
from services.janitor.timers import JanitorTimer

log = logging.getLogger(__name__)

CONCURRENT_CANCELS = 10


async def run_janitor(settings: Settings, resources: Resources, *, stopping: asyncio.Event) -> None:
    """Run until `stopping` is set; another janitor, or the next tick, continues an interrupted run."""
    context = JanitorContext(
        bus=resources.bus,
        store=resources.store,
        media=resources.media,
        outbox=resources.outbox(settings, source=SOURCE, fleet=resources.fleet(settings)),
        settings=settings,
        clock=resources.clock,
    )
    gatherer = FigureGatherer(context)
    repair = partial(_repair, gatherer=gatherer)
    timers = [
        JanitorTimer(WorkQueue.RECONCILE, settings.reconcile_interval, repair, context, ClockComparison()),
        JanitorTimer(WorkQueue.PURGE, settings.purge_interval, purge, context),
        JanitorTimer(WorkQueue.SWEEP, settings.sweep_interval, sweep, context),
    ]
    handlers: list[tuple[WorkQueue, Handler, int]] = [
        *((timer.queue, timer.handle, 1) for timer in timers),
        (WorkQueue.CANCEL, partial(cancel, context=context), CONCURRENT_CANCELS),
        (WorkQueue.DEAD, partial(fail_dead_letter, context=context), 1),
    ]
    async with AsyncExitStack() as stack:
        consumers = [
            await stack.enter_async_context(resources.bus.consume(queue, handler, concurrency=concurrency))
            for queue, handler, concurrency in handlers
        ]
        async with asyncio.TaskGroup() as group:
            endless = [group.create_task(timer.rearm_regularly()) for timer in timers]
            endless.append(group.create_task(gatherer.run()))
            endless.append(group.create_task(index_old_images(resources.store)))
            log.info("taking ticks")
            await stopping.wait()
            for task in endless:
                task.cancel()
        await asyncio.gather(*(consumer.drain(settings.grace_period) for consumer in consumers))


async def _repair(tick: TickData, *, context: JanitorContext, gatherer: FigureGatherer) -> None:
    gatherer.request()
    await keep_checkpoint(context)
    await reconcile(tick, context=context)
