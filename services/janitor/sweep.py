"""Compares files and records, reports what drifted apart, and mends it.

A file without a record is removed once it is old enough that no worker can still be writing it. A record without its
picture is deleted; one without its thumbnail shows the picture instead.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime, timedelta
from functools import partial

from common.domain import images, transitions
from common.domain.errors import MediaMissing
from common.domain.images import Image
from common.media.port import StoredFile
from common.messages import JanitorSwept, SweepReport, TickData
from common.runtime import metrics
from common.store.port import change
from services.janitor.context import SOURCE, JanitorContext, each
from services.janitor.reconcile import remove_deleted

log = logging.getLogger(__name__)

PAGE = 1000
EXAMPLES = 10
MOST_MISSING = 0.5  # of more than FEW records: then the media are not there at all, rather than each file lost
FEW = 20
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def sweep(tick: TickData, *, context: JanitorContext) -> None:
    """One comparison of everything, in pages; with `dry_run` it reports only."""
    files = await _files_without_record(context, remove=not tick.dry_run)
    pictures, thumbnails = await _records_without_files(context)
    if not tick.dry_run:
        await each(pictures, lambda image: _delete(image, context))
        await each(thumbnails, lambda image: change(context.store, image.id, transitions.forget_thumbnail))
    now = context.clock.now()
    report = SweepReport(
        dry_run=tick.dry_run,
        files_without_record=len(files),
        records_without_file=len(pictures),
        records_without_thumbnail=len(thumbnails),
        examples=[*files[:EXAMPLES], *(image.id for image in [*pictures, *thumbnails][:EXAMPLES])],
    )
    metrics.drift.labels("files without a record").set(len(files))
    metrics.drift.labels("records without a picture").set(len(pictures))
    metrics.drift.labels("records without a thumbnail").set(len(thumbnails))
    log.log(
        logging.WARNING if files or pictures or thumbnails else logging.INFO,
        "swept: %d files without a record, %d records without a picture, %d without a thumbnail",
        len(files),
        len(pictures),
        len(thumbnails),
    )
    await context.bus.publish(JanitorSwept(id=images.new_image_id(now), source=SOURCE, time=now, data=report))


async def _files_without_record(context: JanitorContext, *, remove: bool) -> list[str]:
    written_before = context.earliest() - timedelta(seconds=context.settings.sweep_grace)
    found: list[str] = []
    async for files in context.media.walk():
        orphans = await _orphans(files, written_before, context)
        if remove:
            await context.media.remove(orphans)
        found.extend(orphans)
    return found


async def _orphans(files: list[StoredFile], written_before: datetime, context: JanitorContext) -> list[str]:
    old = [file.key for file in files if file.changed_at < written_before]
    ids = {key: match[0] for key in old if (match := _ID.search(key))}
    records = await context.store.get_several(set(ids.values()))
    return [key for key in old if not _belongs(key, records.get(ids.get(key, "")))]


def _belongs(key: str, image: Image | None) -> bool:
    return image is not None and key in {image.image_file, image.thumbnail}


async def _records_without_files(context: JanitorContext) -> tuple[list[Image], list[Image]]:
    """Records whose picture is missing, and those of which only the thumbnail is.

    Raises:
        MediaMissing: it is more than half of them.
    """
    pictures: list[Image] = []
    thumbnails: list[Image] = []
    seen, after_id = 0, ""
    while page := await context.store.completed(after_id=after_id, limit=PAGE):
        there = await context.media.exists(
            [key for image in page for key in (image.image_file, image.thumbnail) if key]
        )
        for image in page:
            if image.image_file not in there:
                pictures.append(image)
            elif image.thumbnail and image.thumbnail not in there:
                thumbnails.append(image)
        seen, after_id = seen + len(page), page[-1].id
    if len(pictures) > max(FEW, seen * MOST_MISSING):
        raise MediaMissing(f"{len(pictures)} of {seen} pictures are missing: is MEDIA_ROOT the right folder?")
    return pictures, thumbnails


async def _delete(image: Image, context: JanitorContext) -> None:
    # read again, after the files: a user may have deleted it between the two looks, which is no drift
    if await context.media.exists([key for key in [image.image_file] if key]):
        return
    deleted = await change(context.store, image.id, partial(transitions.delete, now=context.earliest()))
    await context.outbox.publish_pending(deleted)
    await remove_deleted(deleted, context)
