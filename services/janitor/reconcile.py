"""Finds what a fault left behind on the records, and carries it on. Each step is a move: many janitors may run.

What is looked for, in order: past the deadline, held by a dead worker, never sent, lost in the broker, event not
published, deleted but not yet buried, tombstones that have served.
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
from services.janitor.context import JanitorContext, each

log = logging.getLogger(__name__)

PAGE = 500
MAX_PAGES = 40  # of one step in one run: the next tick goes on
OVERTAKEN = timedelta(seconds=60)  # the broker is first in, first out: what a later one overtook so far is lost
FORGOTTEN = timedelta(minutes=15)  # sent again whatever the broker says: a claim makes a repeat harmless


async def reconcile(_tick: TickData, *, context: JanitorContext) -> None:
    """One run over all records that owe something."""
    earliest, latest = context.earliest(), context.latest()
    grace = latest - timedelta(seconds=context.settings.reconcile_grace)
    deadline = earliest - timedelta(seconds=context.settings.generation_deadline)
    dropped = earliest - timedelta(seconds=context.settings.tombstone_age)
    store = context.store
    did = {
        "past the deadline": await _all(
            partial(store.overdue, deadline), lambda image: _past_deadline(image, context), "overdue"
        ),
        "held by a dead worker": await each(await _abandoned(context), lambda image: _expire_lease(image, context)),
        "never sent": await _all(
            partial(store.unsent, created_before=grace, now=latest), context.outbox.dispatch, "unsent"
        ),
        "lost in the broker": await _send_lost(earliest, context),
        "events due": await _all(
            partial(store.pending_events, since_before=grace), context.outbox.publish_pending, "owing"
        ),
        "buried": await _all(
            partial(store.awaiting_tombstone, deleted_before=grace),
            lambda image: remove_deleted(image, context),
            "unburied",
        ),
        "tombstones dropped": await _all(
            partial(store.tombstones, tombstoned_before=dropped), store.remove, "tombstones"
        ),
        "entries expired": await store.remove_expired_entries(earliest),
    }
    for what, count in did.items():
        metrics.reconciled.labels(what).inc(count)
    if any(did.values()):
        log.info("reconciled: %s", ", ".join(f"{count} {what}" for what, count in did.items() if count))


async def remove_deleted(image: Image, context: JanitorContext) -> None:
    """Remove the files of a deleted image, then shrink its record: in this order, or files would be left behind."""
    await context.media.remove(images.media_keys(image))
    await change(context.store, image.id, partial(transitions.tombstone, now=context.earliest()))


async def _all(
    find: Callable[..., Awaitable[list[Image]]], act: Callable[[Image], Awaitable[object]], what: str
) -> int:
    """Page through what is found for as long as acting on it makes it disappear from the search."""
    done = 0
    for _ in range(MAX_PAGES):
        page = await find(limit=PAGE)
        acted = await each(page, act)
        done += acted
        if len(page) < PAGE or not acted:
            break
    else:
        log.info("%s: more is left for the next tick", what)
    return done


async def _past_deadline(image: Image, context: JanitorContext) -> None:
    failed = await change(context.store, image.id, partial(transitions.fail_past_deadline, now=context.earliest()))
    await context.outbox.publish_pending(failed)


async def _abandoned(context: JanitorContext) -> list[Image]:
    running = await context.store.running(limit=PAGE * MAX_PAGES)
    return context.leases.over(running, lease_s=context.settings.lease, now_s=context.clock.monotonic())


async def _expire_lease(image: Image, context: JanitorContext) -> None:
    lapsed = await change(
        context.store, image.id, partial(transitions.expire_lease, lease=image.lease, now=context.earliest())
    )
    await context.outbox.dispatch(lapsed)


async def _send_lost(now: datetime, context: JanitorContext) -> int:
    """Send again what the broker must have lost; see the two constants above for why it must."""
    grace = now - timedelta(seconds=context.settings.reconcile_grace)
    moments = [now - FORGOTTEN]
    # one that was sent in the future, by a clock that is ahead, would have the whole backlog sent at every tick
    if (started := await context.store.latest_started_sent_at()) and started - OVERTAKEN <= now:
        moments.append(min(started - OVERTAKEN, grace))
    if await context.bus.waiting(WorkQueue.GENERATE) == 0:
        moments.append(grace)
    return await _all(partial(context.store.sent_before, max(moments)), context.outbox.dispatch, "lost")
