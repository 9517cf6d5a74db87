"""Repair of records after faults. Each repair is a transition, so several janitors may run at once.

In this order it handles images that are past their deadline, images whose lease has expired, commands that were never
sent, commands that the broker lost, pending events, unfinished deletes, and tombstones past their age.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from common.bus.port import WorkQueue
from common.domain import images, transitions
from common.domain.images import Image
from common.messages import TickData
from common.runtime import metrics
from common.store.port import change
from services.janitor.context import JanitorContext, for_each_image

log = logging.getLogger(__name__)

PAGE = 500
MAX_PAGES = 40  # of one step in one run; the next tick continues
# The broker delivers in order, so a command is lost if one that was sent this much later has been started.
OVERTAKEN_BY = timedelta(seconds=60)
RESEND_AFTER = timedelta(minutes=15)  # without regard to the broker's state: a claim makes a repeat harmless


async def reconcile(_tick: TickData, *, context: JanitorContext) -> None:
    """One run over all records that need a repair."""
    earliest, latest = context.earliest(), context.latest()
    grace = latest - timedelta(seconds=context.settings.reconcile_grace)
    deadline = earliest - timedelta(seconds=context.settings.generation_deadline)
    tombstone_cutoff = earliest - timedelta(seconds=context.settings.tombstone_age)
    store = context.store
    counts = {
        "past the deadline": await _for_each_page(
            partial(store.overdue, deadline), lambda image: _fail_overdue(image, context), "past the deadline"
        ),
        "held by a dead worker": await for_each_image(
            await _with_expired_lease(context), lambda image: _expire_lease(image, context)
        ),
        "never sent": await _for_each_page(
            partial(store.unsent, created_before=grace, now=latest), context.outbox.dispatch, "never sent"
        ),
        "lost in the broker": await _resend_lost(earliest, context),
        "events due": await _for_each_page(
            partial(store.pending_events, since_before=grace), context.outbox.publish_pending, "events due"
        ),
        "buried": await _for_each_page(
            partial(store.awaiting_tombstone, deleted_before=grace),
            lambda image: finish_delete(image, context),
            "buried",
        ),
        "tombstones dropped": await _for_each_page(
            partial(store.tombstones, tombstoned_before=tombstone_cutoff), store.remove, "tombstones dropped"
        ),
        "entries expired": await store.remove_expired_entries(earliest),
    }
    for what, count in counts.items():
        metrics.reconciled.labels(what).inc(count)
    if any(counts.values()):
        log.info("reconciled: %s", ", ".join(f"{count} {what}" for what, count in counts.items() if count))


async def finish_delete(image: Image, context: JanitorContext) -> None:
    """Remove the files of a deleted image, then make its record a tombstone: in this order, or files would be left."""
    await context.media.remove(images.media_keys(image))
    await change(context.store, image.id, partial(transitions.tombstone, now=context.earliest()))


async def _for_each_page(
    find: Callable[..., Awaitable[list[Image]]], act: Callable[[Image], Awaitable[object]], what: str
) -> int:
    """Act on all images that `find` returns, page by page; the action must remove an image from the result."""
    done = 0
    for _ in range(MAX_PAGES):
        page = await find(limit=PAGE)
        done_in_page = await for_each_image(page, act)
        done += done_in_page
        if len(page) < PAGE or not done_in_page:
            break
    else:
        log.info("%s: the next tick continues", what)
    return done


async def _fail_overdue(image: Image, context: JanitorContext) -> None:
    failed = await change(context.store, image.id, partial(transitions.fail_past_deadline, now=context.earliest()))
    await context.outbox.publish_pending(failed)


async def _with_expired_lease(context: JanitorContext) -> list[Image]:
    running = await context.store.running(limit=PAGE * MAX_PAGES)
    return context.leases.expired(running, lease_s=context.settings.lease, now_s=context.clock.monotonic())


async def _expire_lease(image: Image, context: JanitorContext) -> None:
    queued = await change(
        context.store, image.id, partial(transitions.expire_lease, lease=image.lease, now=context.earliest())
    )
    await context.outbox.dispatch(queued)


async def _resend_lost(now: datetime, context: JanitorContext) -> int:
    """Send the commands again that the broker must have lost, by the two constants above or by its empty queue."""
    grace = now - timedelta(seconds=context.settings.reconcile_grace)
    cutoffs = [now - RESEND_AFTER]
    # a command sent by a clock that is ahead lies in the future, and would cause the whole backlog to be sent each tick
    if (started := await context.store.latest_started_sent_at()) and started - OVERTAKEN_BY <= now:
        cutoffs.append(min(started - OVERTAKEN_BY, grace))
    if await context.bus.waiting(WorkQueue.GENERATE) == 0:
        cutoffs.append(grace)
    find = partial(context.store.sent_before, max(cutoffs))
    return await _for_each_page(find, context.outbox.dispatch, "lost in the broker")
