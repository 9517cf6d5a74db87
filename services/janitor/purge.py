"""Clears away images that are older than the retention: marked, then files, then events, then tombstones.

    mark (gone for every reader) ─▶ remove files ─▶ publish image.deleted ─▶ tombstone

In batches, each step repeatable: killed anywhere, reconcile or the next purge goes on from the marks.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from common.domain import images, transitions
from common.domain.errors import Unavailable
from common.domain.images import Image
from common.messages import JanitorPurged, PurgeReport, Tick, TickData
from common.runtime import metrics
from services.janitor.context import SOURCE, JanitorContext, each

log = logging.getLogger(__name__)

UNDER_WAY = 3  # batches: one at the store, one at the disk, one at the broker
SLICE = 20  # batches in one run; a longer purge sends itself a tick, so that no run outlives a worker's patience


async def purge(tick: TickData, *, context: JanitorContext) -> None:
    """Purge what is older than the tick says, else than the retention; what a slice leaves, a next tick takes up."""
    age_s = tick.older_than if tick.older_than is not None else context.settings.retention_days * 86400
    now = context.earliest()
    cutoff = now - timedelta(seconds=age_s)
    if tick.dry_run:
        await _report(await context.store.count_purgeable(cutoff), cutoff, context, dry_run=True)
        return
    purged, left = await _slice(cutoff, context)
    if left:
        now = context.earliest()
        data = TickData(older_than=(now - cutoff).total_seconds())  # who goes on has the same cutoff
        await context.bus.tick(
            Tick(id=images.new_image_id(now), source=SOURCE, type="timer.purge", time=now, data=data)
        )
    if purged or tick.older_than is not None:
        await _report(purged, cutoff, context, dry_run=False)


async def _slice(cutoff: datetime, context: JanitorContext) -> tuple[int, bool]:
    """How many were purged, and whether more are left.

    While the files of one batch go, which waits for the disk, the next one is marked.
    """
    purged = 0
    turn = asyncio.Semaphore(UNDER_WAY)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(SLICE):
                await turn.acquire()
                batch = await context.store.purgeable(cutoff, limit=context.settings.purge_batch)
                if not batch:
                    return purged, False
                marked = await _mark(batch, context)
                purged += len(marked)
                group.create_task(_clear(marked, context)).add_done_callback(lambda _: turn.release())
    except BaseExceptionGroup as errors:
        # the first is enough: whatever was cut short is marked, and reconcile or the next purge goes on from there
        raise errors.exceptions[0] from None
    return purged, True


async def _mark(batch: list[Image], context: JanitorContext) -> list[Image]:
    """Those that nobody else was faster with."""
    now = context.earliest()
    marked = {image.id: transitions.delete(image, now=now) for image in batch}
    won = await context.store.replace_several(list(marked.values()))
    return [marked[image_id] for image_id in won]


async def _clear(marked: list[Image], context: JanitorContext) -> None:
    await context.media.remove([key for image in marked for key in images.media_keys(image)])
    announced = await _announced(marked, context)
    now = context.earliest()
    tombstones = [transitions.tombstone(image, now=now, announced=image.id in announced) for image in marked]
    await context.store.replace_several(tombstones)
    metrics.purged.inc(len(marked))


async def _announced(deleted: list[Image], context: JanitorContext) -> set[str]:
    """The ids whose event the broker has confirmed; the others stay due on their tombstones."""
    confirmed: set[str] = set()

    async def publish(image: Image) -> None:
        await context.outbox.publish_deleted(image)
        confirmed.add(image.id)

    try:
        await each(deleted, publish)
    except Unavailable as error:
        log.warning("%d events are left due: %s", len(deleted) - len(confirmed), error)
    return confirmed


async def _report(count: int, cutoff: datetime, context: JanitorContext, *, dry_run: bool) -> None:
    log.info("%s %d images from before %s", "would purge" if dry_run else "purged", count, cutoff)
    now = context.clock.now()
    report = PurgeReport(older_than=cutoff, dry_run=dry_run, images=count)
    await context.bus.publish(JanitorPurged(id=images.new_image_id(now), source=SOURCE, time=now, data=report))
