"""Sweep: a comparison of files and records, with a report of their drift and its repair.

A file without a record is removed once it is so old that no worker can still be writing it. A record without its
picture is deleted; a record without its thumbnail shows the picture instead.
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
from services.janitor.context import SOURCE, JanitorContext, for_each_image
from services.janitor.reconcile import finish_delete

log = logging.getLogger(__name__)

PAGE = 1000
EXAMPLES = 10
MAX_MISSING_SHARE = 0.5  # above it the whole media folder is missing, rather than single files
MAX_MISSING = 20  # so many may be missing, whatever their share
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def sweep(tick: TickData, *, context: JanitorContext) -> None:
    """Compare all files and records, page by page; with `dry_run` only report."""
    files = await _files_without_record(context, remove=not tick.dry_run)
    pictures, thumbnails = await _records_without_files(context)
    if not tick.dry_run:
        await for_each_image(pictures, lambda image: _delete(image, context))
        await for_each_image(thumbnails, lambda image: change(context.store, image.id, transitions.forget_thumbnail))
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
    return [key for key in old if not _is_of(key, records.get(ids.get(key, "")))]


def _is_of(key: str, image: Image | None) -> bool:
    return image is not None and key in {image.image_file, image.thumbnail}


async def _records_without_files(context: JanitorContext) -> tuple[list[Image], list[Image]]:
    """The records whose picture is missing, and those that miss only their thumbnail.

    Raises:
        MediaMissing: more than half of the pictures are missing.
    """
    pictures: list[Image] = []
    thumbnails: list[Image] = []
    seen, after_id = 0, ""
    while page := await context.store.completed(after_id=after_id, limit=PAGE):
        existing = await context.media.exists(
            [key for image in page for key in (image.image_file, image.thumbnail) if key]
        )
        for image in page:
            if image.image_file not in existing:
                pictures.append(image)
            elif image.thumbnail and image.thumbnail not in existing:
                thumbnails.append(image)
        seen, after_id = seen + len(page), page[-1].id
    if len(pictures) > max(MAX_MISSING, seen * MAX_MISSING_SHARE):
        raise MediaMissing(f"{len(pictures)} of {seen} pictures are missing: is MEDIA_ROOT the right folder?")
    return pictures, thumbnails


async def _delete(image: Image, context: JanitorContext) -> None:
    # check the file again: the owner may have deleted the image between the two reads, which is no drift
    if await context.media.exists([key for key in [image.image_file] if key]):
        return
    deleted = await change(context.store, image.id, partial(transitions.delete, now=context.earliest()))
    await context.outbox.publish_pending(deleted)
    await finish_delete(deleted, context)
