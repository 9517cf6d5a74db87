"""Repair of records after faults. Each repair is a transition, so several janitors may run at once.

In this order it handles images that are past their deadline, images whose lease has expired, incomplete batches, images
whose pool has no generator any more, images whose turn has come, commands that were never sent, commands that the
broker lost, pending events, unfinished deletes, and tombstones past their age.

Each pool has a queue of its own: what concerns commands is done for each pool, and one that fails delays no other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from common.bus.port import WorkQueue
from common.domain import quotas, transitions
from common.domain.errors import Unavailable
from common.domain.images import Image
from common.domain.turns import free_keys, slot_keys
from common.messages import TickData
from common.runtime import metrics
from common.runtime.setting_types import MAX_AGE_S
from common.store.port import change
from services.janitor.context import JanitorContext, for_each_image, remove_files

log = logging.getLogger(__name__)

PAGE = 500
MAX_KEYS = 1000  # of slots in one query
MAX_PAGES = 40  # of one step in one run; the next tick continues
# The broker delivers in order, so a command is lost if one that was sent this much later has been started.
OVERTAKEN_BY = timedelta(seconds=60)
RESEND_AFTER = timedelta(minutes=15)  # if the broker holds fewer commands than images wait, whichever are missing


async def reconcile(_tick: TickData, *, context: JanitorContext) -> None:
    """One run over all records that need a repair."""
    if context.outbox.fleet is not None:
        await context.outbox.fleet.current(fresh=True)  # a generator that has just started has sent this tick
    counts = {what: await _run_step(what, step) for what, step in _steps(context).items()}
    for what, count in counts.items():
        metrics.reconciled.labels(what).inc(count)
    if any(counts.values()):
        log.info("reconciled: %s", ", ".join(f"{count} {what}" for what, count in counts.items() if count))


def _steps(context: JanitorContext) -> dict[str, Callable[[], Awaitable[int]]]:
    """The steps of a run, by what they repair; each returns how many records it has repaired."""
    earliest, latest = context.earliest(), context.latest()
    settings, store = context.settings, context.store
    grace = latest - timedelta(seconds=settings.reconcile_grace)
    overdue = partial(store.overdue, earliest - timedelta(seconds=settings.generation_deadline))
    waiting_overdue = partial(store.waiting_overdue, earliest - timedelta(seconds=settings.waiting_deadline))
    # an hour's quota looks for its images: one without a record was never painted
    tombstone_cutoff = earliest - max(timedelta(seconds=settings.tombstone_age), quotas.HOUR)
    each_of = partial(_for_each_page, context)
    fail_overdue = partial(_fail_overdue, context=context)
    return {
        "past the deadline": partial(each_of, overdue, fail_overdue, "past the deadline"),
        "waited too long": partial(each_of, waiting_overdue, fail_overdue, "waited too long"),
        "held by a dead worker": partial(_expire_leases, context),
        "batches completed": partial(_complete_batches, grace, context),
        "without a generator": partial(_set_waiting, context),
        "given their turn": partial(_dispatch_waiting, context),
        "never sent": partial(_for_each_pool, partial(_send_unsent, grace, latest), "never sent", context),
        "lost in the broker": partial(_for_each_pool, partial(_resend_lost, earliest), "lost in the broker", context),
        "events due": partial(
            each_of, partial(store.pending_events, since_before=grace), context.outbox.publish_pending, "events due"
        ),
        "buried": partial(
            each_of,
            partial(store.awaiting_tombstone, deleted_before=grace),
            partial(finish_delete, context=context),
            "buried",
        ),
        "tombstones dropped": partial(
            each_of, partial(store.tombstones, tombstoned_before=tombstone_cutoff), store.remove, "tombstones dropped"
        ),
        "entries expired": partial(store.remove_expired_entries, earliest),
    }


async def _run_step(what: str, step: Callable[[], Awaitable[int]]) -> int:
    """Run a step; if the bus or the media fail, the steps that do not need them still run.

    Raises:
        Unavailable: the store does not answer; every step needs it.
    """
    try:
        return await step()
    except Unavailable as error:
        if error.what == "store":
            raise
        log.warning("%s: %s; the next tick continues", what, error)
        return 0


async def finish_delete(image: Image, context: JanitorContext) -> None:
    """Remove the files of a deleted image, then make its record a tombstone: in this order, or files would be left."""
    await remove_files(image, context)
    await context.batches.complete(image)
    await change(context.store, image.id, partial(transitions.tombstone, now=context.earliest()))


async def _for_each_page(
    context: JanitorContext,
    find: Callable[..., Awaitable[list[Image]]],
    act: Callable[[Image], Awaitable[object]],
    what: str,
) -> int:
    """Act on all images that `find` returns, page by page; the action must remove an image from the result.

    Images for which it fails stay in the result, so the page grows by their number.
    """
    done = 0
    failed: set[str] = set()
    for _ in range(MAX_PAGES):
        limit, failed_before = PAGE + len(failed), len(failed)
        page = await find(limit=limit)
        done_in_page = await for_each_image(
            [image for image in page if image.id not in failed], act, context=context, failed=failed
        )
        done += done_in_page
        if len(page) < limit or not (done_in_page or len(failed) > failed_before):
            break
    else:
        log.info("%s: the next tick continues", what)
    return done


async def _fail_overdue(image: Image, context: JanitorContext) -> None:
    failed = await change(context.store, image.id, partial(transitions.fail_past_deadline, now=context.earliest()))
    await context.outbox.publish_pending(failed)


async def _expire_leases(context: JanitorContext) -> int:
    running = await context.store.running(limit=PAGE * MAX_PAGES)
    expired = context.leases.expired(running, lease_s=context.settings.lease, now_s=context.clock.monotonic())
    return await for_each_image(expired, lambda image: _expire_lease(image, context), context=context)


async def _expire_lease(image: Image, context: JanitorContext) -> None:
    queued = await change(
        context.store, image.id, partial(transitions.expire_lease, lease=image.lease, now=context.earliest())
    )
    await context.outbox.dispatch(queued)


async def _complete_batches(due_before: datetime, context: JanitorContext) -> int:
    find = partial(context.store.incomplete_batches, due_before=due_before)
    return await _for_each_page(context, find, context.batches.begin, "batches completed")


async def _dispatch_waiting(context: JanitorContext) -> int:
    """Give the turns of every owner who waits: after a crash, or a change of the limit, nobody else does."""
    done, after = 0, ""

    async def dispatch(first: Image) -> None:
        nonlocal done
        done += await context.outbox.dispatch_waiting(first.owner)

    while True:  # to the last page: owners who have no free slot are found again by the next run, before the others
        owners = await context.store.owners_waiting(after=after, limit=PAGE)
        free = await _with_a_free_slot(owners, context)
        firsts = [await context.store.next_waiting(owner, now=context.latest(), limit=1) for owner in free]
        await for_each_image([image for found in firsts for image in found], dispatch, context=context)
        if len(owners) < PAGE:
            break
        after = owners[-1]
    return done


async def _with_a_free_slot(owners: list[str], context: JanitorContext) -> list[str]:
    """Those of the owners who can have a turn. A few queries for all: mostly nobody can, and each turn takes three."""
    slots = context.outbox.slots
    if not slots:
        return owners
    free: list[str] = []
    each = max(1, MAX_KEYS // slots)
    for some in (owners[start : start + each] for start in range(0, len(owners), each)):
        held = await context.store.held_slots([key for owner in some for key in slot_keys(owner, slots)])
        free.extend(owner for owner in some if free_keys(slot_keys(owner, slots), held))
    return free


async def _set_waiting(context: JanitorContext) -> int:
    """Let the images wait again that were dispatched to a pool whose generators are all gone; their slots are free."""
    view = await context.outbox.fleet.current() if context.outbox.fleet is not None else None
    if view is None or not view.is_known:  # older generators do not announce themselves
        return 0

    async def set_waiting(image: Image) -> None:
        again = partial(transitions.set_waiting, now=context.latest(), not_before=image.not_before)
        await context.outbox.publish_pending(await change(context.store, image.id, again))

    done = 0
    for pool in set(await context.store.queued_pools()) - view.pools():
        find = partial(context.store.dispatched_to, pool)
        done += await _for_each_page(context, find, set_waiting, "without a generator")
    return done


async def _for_each_pool(
    step: Callable[[str, JanitorContext], Awaitable[int]], what: str, context: JanitorContext
) -> int:
    """Run a step for each pool that has queued images; one whose queue cannot be used delays no other.

    Raises:
        Unavailable: the store does not answer.
    """
    done = 0
    for pool in await context.store.queued_pools():
        done += await _run_step(f"{what}, pool {pool}", partial(step, pool, context))
    return done


async def _send_unsent(created_before: datetime, now: datetime, pool: str, context: JanitorContext) -> int:
    find = partial(context.store.unsent, created_before=created_before, now=now, pool=pool)
    return await _for_each_page(context, find, context.outbox.dispatch, "never sent")


async def _resend_lost(now: datetime, pool: str, context: JanitorContext) -> int:
    """Send the commands of a pool again that the broker must have lost.

    By the constants above, or because it holds fewer commands than images wait for. A command that is sent again
    adds to those it holds, so a queue that nobody consumes is not sent again and again.
    """
    grace = now - timedelta(seconds=context.settings.reconcile_grace)
    cutoffs: list[datetime] = []
    # a command sent by a clock that is ahead lies in the future, and would cause the whole backlog to be sent each tick
    if (started := await context.store.latest_started_sent_at(pool)) and started - OVERTAKEN_BY <= now:
        cutoffs.append(min(started - OVERTAKEN_BY, grace))
    held = await context.bus.waiting(WorkQueue.GENERATE, pool=pool)
    if held == 0:
        cutoffs.append(grace)
    elif await _count_queued(now, pool, context, limit=held + 1) > held:
        cutoffs.append(now - RESEND_AFTER)
    if not cutoffs:
        return 0
    find = partial(context.store.sent_before, max(cutoffs), pool=pool)
    return await _for_each_page(context, find, context.outbox.dispatch, "lost in the broker")


async def _count_queued(now: datetime, pool: str, context: JanitorContext, *, limit: int) -> int:
    return await context.store.count_queued_before(now + timedelta(seconds=MAX_AGE_S), "", limit=limit, pool=pool)
