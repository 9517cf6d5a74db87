"""Sweep: a comparison of files and records, with a report of their drift and its repair.

    count both sides ──▶ too much is missing, or the media are not this store's ──▶ report why, change nothing
                    └──▶ little is missing ──▶ remove the files, delete the records ──▶ report

A file without a record is removed once it is so old that no worker can still be writing it. A record without its
picture is deleted, unless it is pinned; a record without its thumbnail shows the picture instead.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from common.application.operation.checkpoint import read_checkpoints
from common.domain import images, transitions
from common.domain.errors import Unavailable
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
MAX_MISSING = 20  # so many may be missing whatever their share, if that is not most of a small deployment


@dataclass(slots=True)
class _Drift:
    """What has no counterpart; `foreign` counts the files whose image is not known at all."""

    old_files: int = 0
    foreign: int = 0
    files: list[StoredFile] = field(default_factory=list)
    records: int = 0
    pictures: list[Image] = field(default_factory=list)
    thumbnails: list[Image] = field(default_factory=list)


async def sweep(tick: TickData, *, context: JanitorContext) -> None:
    """Compare all files and records, page by page; with `dry_run`, or if something is wrong, only report."""
    drift = _Drift()
    await _count_files(drift, context)
    await _count_records(drift, context)
    refused = await _reason_to_refuse(drift, context)
    if refused is None and not tick.dry_run:
        await _repair(drift, context)
    await _report(drift, refused, context, dry_run=tick.dry_run)


async def _count_files(drift: _Drift, context: JanitorContext) -> None:
    written_before = context.earliest() - timedelta(seconds=context.settings.sweep_grace)
    async for page in context.media.walk():
        old = [file for file in page if file.changed_at < written_before]
        orphans, foreign = await _without_record(old, context)
        drift.old_files += len(old)
        drift.files += orphans
        drift.foreign += foreign


async def _without_record(files: Sequence[StoredFile], context: JanitorContext) -> tuple[list[StoredFile], int]:
    """The files that no record names, and how many of them are pictures of images that have no record at all.

    A file of a record that cannot be read is kept: the record may be of a newer version.
    """
    ids = {file.image_id for file in files if file.image_id}
    records = await context.store.get_several(ids)
    unreadable = await context.store.known_ids(ids - records.keys()) if ids - records.keys() else set()
    orphans = [
        file for file in files if file.image_id not in unreadable and not _is_of(file, records.get(file.image_id or ""))
    ]
    return orphans, sum(file.image_id not in records and not file.is_leftover for file in orphans)


def _is_of(file: StoredFile, image: Image | None) -> bool:
    return image is not None and file.key in {image.image_file, image.thumbnail, *images.rendition_keys(image)}


async def _count_records(drift: _Drift, context: JanitorContext) -> None:
    after_id = ""
    while page := await context.store.completed(after_id=after_id, limit=PAGE):
        existing = await context.media.exists(
            [key for image in page for key in (image.image_file, image.thumbnail) if key]
        )
        for image in page:
            if image.image_file not in existing:
                drift.pictures.append(image)
            elif image.thumbnail and image.thumbnail not in existing:
                drift.thumbnails.append(image)
        drift.records, after_id = drift.records + len(page), page[-1].id


async def _reason_to_refuse(drift: _Drift, context: JanitorContext) -> str | None:
    """Why nothing may be removed; None if the drift is as small as faults leave it."""
    limit = context.settings.sweep_limit
    try:
        await context.media.check()
    except Unavailable as error:
        return error.detail
    if difference := (await read_checkpoints(context.store, context.media)).difference:
        return f"{difference}. Nothing is removed until `darkroom media --adopt`; docs/operating.md, Restore"
    if _is_too_much(drift.foreign, drift.old_files, limit):
        return (
            f"{drift.foreign} of {drift.old_files} files belong to no image of this store: is STORE_URL the right "
            f"store, and complete? SWEEP_LIMIT ({limit} %) allows a sweep of more"
        )
    if _is_too_much(len(drift.pictures), drift.records, limit):
        return (
            f"{len(drift.pictures)} of {drift.records} pictures are missing: is MEDIA_ROOT the right folder, and "
            f"complete? SWEEP_LIMIT ({limit} %) allows a sweep of more"
        )
    return None


def _is_too_much(missing: int, total: int, limit_percent: int) -> bool:
    return missing * 100 > total * limit_percent and missing > min(MAX_MISSING, total / 2)


async def _repair(drift: _Drift, context: JanitorContext) -> None:
    for start in range(0, len(drift.files), PAGE):
        # asked again: a record may have been restored since the count
        orphans, _ = await _without_record(drift.files[start : start + PAGE], context)
        await context.media.remove([file.key for file in orphans])
    unpinned = [image for image in drift.pictures if not image.pinned]
    await for_each_image(unpinned, lambda image: _delete(image, context), context=context)
    await for_each_image(
        drift.thumbnails,
        lambda image: change(context.store, image.id, transitions.forget_thumbnail),
        context=context,
    )


async def _delete(image: Image, context: JanitorContext) -> None:
    # check the file again: the owner may have deleted the image between the two reads, which is no drift
    if await context.media.exists([key for key in [image.image_file] if key]):
        return

    def deleted_unless_pinned(current: Image) -> Image:
        return current if current.pinned else transitions.delete(current, now=context.earliest())

    deleted = await change(context.store, image.id, deleted_unless_pinned)
    if deleted.deleted_at is not None:
        await context.outbox.publish_pending(deleted)
        await finish_delete(deleted, context)


async def _report(drift: _Drift, refused: str | None, context: JanitorContext, *, dry_run: bool) -> None:
    report = SweepReport(
        dry_run=dry_run,
        files_without_record=len(drift.files),
        records_without_file=len(drift.pictures),
        records_without_thumbnail=len(drift.thumbnails),
        examples=[
            *(file.key for file in drift.files[:EXAMPLES]),
            *(image.id for image in [*drift.pictures, *drift.thumbnails][:EXAMPLES]),
        ],
        refused=refused,
    )
    found = {
        "files without a record": len(drift.files),
        "records without a picture": len(drift.pictures),
        "records without a thumbnail": len(drift.thumbnails),
    }
    for what, count in found.items():
        metrics.drift.labels(what).set(count)
    log.log(
        logging.WARNING if any(found.values()) or refused else logging.INFO,
        "swept: %s",
        ", ".join(f"{count} {what}" for what, count in found.items()),
    )
    if refused:
        log.error("the sweep has changed nothing: %s", refused)
    now = context.clock.now()
    await context.bus.publish(JanitorSwept(id=images.new_image_id(now), source=SOURCE, time=now, data=report))
