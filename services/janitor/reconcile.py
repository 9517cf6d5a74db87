"""Finds what a fault left behind on the records, and carries it on. Each step is a move: many janitors may run.

What is looked for, in order: past the deadline, held by a dead worker, never sent, lost in the broker, event not
published, deleted but not yet buried, tombstones that have served.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from common import images, metrics, moves
from common.bus.port import WorkQueue
from common.images import Image
from common.messages import TickData
from common.store.port import change
from services.janitor.tools import Tools, each

log = logging.getLogger(__name__)

PAGE = 500
MAX_PAGES = 40  # of one step in one run: the next tick goes on
OVERTAKEN = timedelta(seconds=60)  # the broker is first in, first out: what a later one overtook so far is lost
FORGOTTEN = timedelta(minutes=15)  # sent again whatever the broker says: a claim makes a repeat harmless


async def reconcile(_tick: TickData, *, tools: Tools) -> None:
    """One run over all records that owe something."""
    now = tools.clock.now()
    grace = now - timedelta(seconds=tools.settings.reconcile_grace)
    deadline = now - timedelta(seconds=tools.settings.generation_deadline)
    dropped = now - timedelta(seconds=tools.settings.tombstone_age)
    store = tools.store
    did = {
        "past the deadline": await _all(
            partial(store.overdue, deadline), lambda image: _past_deadline(image, tools), "overdue"
        ),
        "held by a dead worker": await _all(partial(store.lapsed, now), lambda image: _lapse(image, tools), "lapsed"),
        "never sent": await _all(partial(store.unsent, created_before=grace, now=now), tools.outbox.order, "unsent"),
        "lost in the broker": await _send_lost(now, grace, tools),
        "events due": await _all(partial(store.owing, since_before=grace), tools.outbox.announce, "owing"),
        "buried": await _all(
            partial(store.unburied, deleted_before=grace), lambda image: bury(image, tools), "unburied"
        ),
        "tombstones dropped": await _all(partial(store.tombstones, buried_before=dropped), store.remove, "tombstones"),
        "entries expired": await store.expire(now),
    }
    for what, count in did.items():
        metrics.reconciled.labels(what).inc(count)
    if any(did.values()):
        log.info("reconciled: %s", ", ".join(f"{count} {what}" for what, count in did.items() if count))


async def bury(image: Image, tools: Tools) -> None:
    """Remove the files of a deleted image, then shrink its record: in this order, or files would be left behind."""
    await tools.media.remove(images.media_keys(image))
    await change(tools.store, image.id, partial(moves.bury, now=tools.clock.now()))


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
    failed = await change(tools.store, image.id, partial(moves.past_deadline, now=tools.clock.now()))
    await tools.outbox.announce(failed)


async def _lapse(image: Image, tools: Tools) -> None:
    await tools.outbox.order(await change(tools.store, image.id, partial(moves.lapse, now=tools.clock.now())))


async def _send_lost(now: datetime, grace: datetime, tools: Tools) -> int:
    """Send again what the broker must have lost; see the two constants above for why it must."""
    moments = [now - FORGOTTEN]
    if started := await tools.store.last_started():
        moments.append(min(started - OVERTAKEN, grace))
    if await tools.bus.waiting(WorkQueue.GENERATE) == 0:
        moments.append(grace)
    return await _all(partial(tools.store.sent_before, max(moments)), tools.outbox.order, "lost")
