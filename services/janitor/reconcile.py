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
from services.janitor.context import Tools, each

log = logging.getLogger(__name__)

PAGE = 500
MAX_PAGES = 40  # of one step in one run: the next tick goes on
OVERTAKEN = timedelta(seconds=60)  # the broker is first in, first out: what a later one overtook so far is lost
FORGOTTEN = timedelta(minutes=15)  # sent again whatever the broker says: a claim makes a repeat harmless


async def reconcile(_tick: TickData, *, tools: Tools) -> None:
    """One run over all records that owe something."""
    surely, perhaps = tools.surely(), tools.perhaps()
    grace = perhaps - timedelta(seconds=tools.settings.reconcile_grace)
    deadline = surely - timedelta(seconds=tools.settings.generation_deadline)
    dropped = surely - timedelta(seconds=tools.settings.tombstone_age)
    store = tools.store
    did = {
        "past the deadline": await _all(
            partial(store.overdue, deadline), lambda image: _past_deadline(image, tools), "overdue"
        ),
        "held by a dead worker": await each(await _abandoned(tools), lambda image: _lapse(image, tools)),
        "never sent": await _all(
            partial(store.unsent, created_before=grace, now=perhaps), tools.outbox.order, "unsent"
        ),
        "lost in the broker": await _send_lost(surely, tools),
        "events due": await _all(partial(store.pending_events, since_before=grace), tools.outbox.announce, "owing"),
        "buried": await _all(
            partial(store.awaiting_tombstone, deleted_before=grace),
            lambda image: remove_deleted(image, tools),
            "unburied",
        ),
        "tombstones dropped": await _all(
            partial(store.tombstones, tombstoned_before=dropped), store.remove, "tombstones"
        ),
        "entries expired": await store.expire(surely),
    }
    for what, count in did.items():
        metrics.reconciled.labels(what).inc(count)
    if any(did.values()):
        log.info("reconciled: %s", ", ".join(f"{count} {what}" for what, count in did.items() if count))


async def remove_deleted(image: Image, tools: Tools) -> None:
    """Remove the files of a deleted image, then shrink its record: in this order, or files would be left behind."""
    await tools.media.remove(images.media_keys(image))
    await change(tools.store, image.id, partial(transitions.tombstone, now=tools.surely()))


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


async def _past_deadline(image: Image, tools: Tools) -> None:
    failed = await change(tools.store, image.id, partial(transitions.past_deadline, now=tools.surely()))
    await tools.outbox.announce(failed)


async def _abandoned(tools: Tools) -> list[Image]:
    running = await tools.store.running(limit=PAGE * MAX_PAGES)
    return tools.leases.over(running, lease_s=tools.settings.lease, now_s=tools.clock.monotonic())


async def _lapse(image: Image, tools: Tools) -> None:
    lapsed = await change(tools.store, image.id, partial(transitions.lapse, lease=image.lease, now=tools.surely()))
    await tools.outbox.order(lapsed)


async def _send_lost(now: datetime, tools: Tools) -> int:
    """Send again what the broker must have lost; see the two constants above for why it must."""
    grace = now - timedelta(seconds=tools.settings.reconcile_grace)
    moments = [now - FORGOTTEN]
    # one that was sent in the future, by a clock that is ahead, would have the whole backlog sent at every tick
    if (started := await tools.store.last_started()) and started - OVERTAKEN <= now:
        moments.append(min(started - OVERTAKEN, grace))
    if await tools.bus.waiting(WorkQueue.GENERATE) == 0:
        moments.append(grace)
    return await _all(partial(tools.store.sent_before, max(moments)), tools.outbox.order, "lost")
