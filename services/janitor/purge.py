"""Purge of images that are older than the retention.

    mark deleted (hidden from all readers) ─▶ remove files ─▶ publish image.deleted ─▶ tombstone

It works in batches, and each step is repeatable: after a crash, reconcile or the next purge continues from the marks.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from common.domain import images, transitions
from common.domain.errors import Invalid, Unavailable
from common.domain.images import Image
from common.messages import JanitorPurged, PurgeReport, Tick, TickData
from common.runtime import metrics
from common.runtime.setting_types import MAX_AGE_S
from services.janitor.context import SOURCE, JanitorContext, for_each_image, remove_files

log = logging.getLogger(__name__)

CONCURRENT_BATCHES = 3  # one waits for the store, one for the disk, one for the broker
EVENTS_AT_ONCE = 100  # encoded in 5 ms, in which this process does nothing else
BATCHES_PER_RUN = 20  # a longer purge continues with a tick of its own, so no run outlasts a consumer timeout


async def purge(tick: TickData, *, context: JanitorContext) -> None:
    """Purge images older than the tick says, or than the retention; one run purges a limited number of batches."""
    age = context.settings.retention if tick.older_than is None else timedelta(seconds=min(tick.older_than, MAX_AGE_S))
    if age is None:  # images are kept for ever
        return
    cutoff = context.earliest() - age
    if tick.dry_run:
        await _report(await context.store.count_purgeable(cutoff), cutoff, context, dry_run=True)
        return
    purged, has_more = await _purge_batches(cutoff, context)
    if has_more:
        now = context.earliest()
        data = TickData(older_than=(now - cutoff).total_seconds())  # the next run gets the same cutoff
        await context.bus.tick(
            Tick(id=images.new_image_id(now), source=SOURCE, type="timer.purge", time=now, data=data)
        )
    if purged or tick.older_than is not None:
        await _report(purged, cutoff, context, dry_run=False)


async def _purge_batches(cutoff: datetime, context: JanitorContext) -> tuple[int, bool]:
    """Returns how many images were purged, and whether more are left.

    While the files of one batch are removed, which waits for the disk, the next batch is marked.
    """
    purged = 0
    slots = asyncio.Semaphore(CONCURRENT_BATCHES)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(BATCHES_PER_RUN):
                await slots.acquire()
                batch = await context.store.purgeable(cutoff, limit=context.settings.purge_batch)
                if not batch:
                    return purged, False
                marked = await _mark_deleted(batch, context)
                if not marked:  # nothing can be marked now, and the next query would return the same images
                    return purged, False
                purged += len(marked)
                group.create_task(_remove_batch(marked, context)).add_done_callback(lambda _: slots.release())
    except BaseExceptionGroup as errors:
        # the first error is enough: interrupted batches are marked, so reconcile or the next purge finishes them
        raise errors.exceptions[0] from None
    return purged, True


async def _mark_deleted(batch: list[Image], context: JanitorContext) -> list[Image]:
    """Returns the images that this janitor marked; another writer was faster with the rest."""
    now = context.earliest()
    # a tombstone has no prompt: what has to be made from the first image of a request for several is made before
    batch = [await context.batches.complete(image) for image in batch]
    marked = {image.id: transitions.delete(image, now=now) for image in batch}
    try:
        written = await context.store.replace_several(list(marked.values()))
    except Unavailable:
        raise
    except Exception:  # noqa: BLE001 - one record that cannot be written fails the batch: each by itself
        written = set()

        async def replace(image: Image) -> None:
            if await context.store.replace(marked[image.id]):
                written.add(image.id)

        await for_each_image(batch, replace, context=context)
    return [marked[image_id] for image_id in written]


async def _remove_batch(marked: list[Image], context: JanitorContext) -> None:
    marked = await _remove_files(marked, context)
    confirmed = await _publish_deleted(marked, context)
    now = context.earliest()
    tombstones = [transitions.tombstone(image, now=now, announced=image.id in confirmed) for image in marked]
    await context.store.replace_several(tombstones)
    metrics.purged.inc(len(marked))


async def _remove_files(marked: list[Image], context: JanitorContext) -> list[Image]:
    """Returns the images whose files are removed; reconcile tries the others again."""
    try:
        await context.media.remove([key for image in marked for key in images.media_keys(image)])
    except (Invalid, Unavailable):  # a strange id, or one folder that cannot be written: each image by itself
        failed: set[str] = set()
        await for_each_image(marked, lambda image: remove_files(image, context), context=context, failed=failed)
        return [image for image in marked if image.id not in failed]
    return marked


async def _publish_deleted(deleted: list[Image], context: JanitorContext) -> set[str]:
    """Returns the ids whose event the broker has confirmed; the others stay pending on their tombstones."""
    confirmed: set[str] = set()
    one_by_one = [image for image in deleted if image.webhook is not None]  # its deliveries are removed before
    others = [image for image in deleted if image.webhook is None]
    for start in range(0, len(others), EVENTS_AT_ONCE):
        some = others[start : start + EVENTS_AT_ONCE]
        try:
            published = await context.outbox.publish_deleted_several(some)
            if not published:
                break  # the broker is away
            confirmed |= published
        except Exception:  # noqa: BLE001 - one event that cannot be made fails the batch: each by itself
            one_by_one += some

    async def publish(image: Image) -> None:
        await context.outbox.publish_deleted(image)
        confirmed.add(image.id)

    try:
        await for_each_image(one_by_one, publish, context=context)
    except Unavailable as error:
        log.warning("%d events stay pending: %s", len(one_by_one), error)
    return confirmed


async def _report(count: int, cutoff: datetime, context: JanitorContext, *, dry_run: bool) -> None:
    log.info("%s %d images older than %s", "would purge" if dry_run else "purged", count, cutoff)
    now = context.clock.now()
    report = PurgeReport(older_than=cutoff, dry_run=dry_run, images=count)
    await context.bus.publish(JanitorPurged(id=images.new_image_id(now), source=SOURCE, time=now, data=report))
