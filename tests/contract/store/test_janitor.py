"""The queries of janitor and queue positions."""

from datetime import timedelta

import pytest

from common.domain import transitions
from common.domain.images import Lease, PendingEvent, Status
from common.domain.search import HistoryPosition
from tests.contract.store.records import LEASE, MS, PENDING, SECOND, ids, keep
from tests.making import NOON, an_image


@pytest.mark.parametrize(
    ("fields", "is_found"),
    [
        ({}, True),
        ({"sent_at": NOON}, True),
        ({"not_before": NOON}, True),
        ({"not_before": NOON + SECOND}, False),
        ({"status": Status.RUNNING}, False),
        ({"status": Status.CANCELLED, "deleted_at": NOON}, False),
        ({"waiting_since": NOON}, False),
        ({"dispatched_at": NOON}, True),
        ({"dispatched_at": NOON + SECOND}, False),
    ],
)
async def test_queued(store, fields, is_found):
    image = an_image(**fields)
    await store.insert(image)

    assert await store.queued_ids(NOON, limit=10) == [image.id] * is_found


async def test_queued_images_are_sorted_by_queued_since(store):
    retried = an_image(not_before=NOON + 2 * SECOND)
    at_once = sorted([an_image(), an_image(), an_image(owner="another")], key=lambda image: image.id)
    in_order = ids([*at_once, an_image(created_at=NOON + SECOND), retried, an_image(created_at=NOON + 3 * SECOND)])
    await keep(store, retried, *at_once[::-1])
    await keep(store, an_image(id=in_order[5], created_at=NOON + 3 * SECOND))
    await keep(store, an_image(id=in_order[3], created_at=NOON + SECOND))

    assert await store.queued_ids(NOON + 3 * SECOND, limit=10) == in_order
    assert await store.queued_ids(NOON + 3 * SECOND, limit=4) == in_order[:4]
    assert await store.queued_ids(NOON + 2 * SECOND, limit=10) == in_order[:5]
    before = [await store.count_queued_before(image.queued_since, image.id, limit=10) for image in [*at_once, retried]]
    assert before == [0, 1, 2, 4]
    assert await store.count_queued_before(retried.queued_since, retried.id, limit=3) == 3


async def test_a_claimed_image_waits_again_when_it_is_given_back(store):
    image, other = an_image(), an_image(created_at=NOON + SECOND)
    await keep(store, image, other)
    claimed = transitions.claim(image, lease=LEASE, now=NOON + SECOND, deadline=timedelta(hours=1))

    await store.replace(claimed)
    taken = await store.queued_ids(NOON + 5 * SECOND, limit=10)
    await store.replace(transitions.give_back(claimed, lease=LEASE, attempt=1, now=NOON + 2 * SECOND))

    assert taken == [other.id]
    assert await store.queued_ids(NOON + 5 * SECOND, limit=10) == [other.id, image.id]


@pytest.mark.parametrize(
    ("fields", "is_found"),
    [
        ({}, True),
        ({"created_at": NOON}, False),
        ({"sent_at": NOON - SECOND}, False),
        ({"status": Status.RUNNING}, False),
        ({"status": Status.FAILED}, False),
        ({"not_before": NOON + SECOND}, True),
        ({"not_before": NOON + 2 * SECOND}, False),
        ({"waiting_since": NOON - SECOND}, False),
        ({"dispatched_at": NOON}, True),
    ],
)
async def test_unsent(store, fields, is_found):
    image = an_image(**{"created_at": NOON - SECOND, **fields})
    await store.insert(image)

    found = await store.unsent(created_before=NOON, now=NOON + SECOND, limit=10)

    assert found == [image] * is_found


@pytest.mark.parametrize(
    ("fields", "is_found"),
    [
        ({}, True),
        ({"sent_at": NOON}, False),
        ({"sent_at": None}, False),
        ({"status": Status.RUNNING}, False),
        ({"not_before": NOON - SECOND}, True),
        ({"not_before": NOON}, False),
        ({"waiting_since": NOON - SECOND}, False),
    ],
)
async def test_sent_before(store, fields, is_found):
    image = an_image(**{"sent_at": NOON - SECOND, **fields})
    await store.insert(image)

    assert await store.sent_before(NOON, limit=10) == [image] * is_found


async def test_last_started_is_the_latest_that_a_worker_answered(store):
    assert await store.latest_started_sent_at() is None
    await keep(
        store,
        an_image(status=Status.COMPLETED, sent_at=NOON, started_at=NOON),
        an_image(status=Status.RUNNING, sent_at=NOON + SECOND, started_at=NOON + 2 * SECOND),
        an_image(sent_at=NOON + 5 * SECOND),
        an_image(sent_at=NOON + 4 * SECOND, started_at=NOON + 3 * SECOND),
        an_image(status=Status.CANCELLED, sent_at=NOON + 6 * SECOND),
        an_image(status=Status.RUNNING, started_at=NOON + 7 * SECOND),
    )

    assert await store.latest_started_sent_at() == NOON + SECOND


@pytest.mark.parametrize(("status", "is_found"), [(Status.RUNNING, True), (Status.QUEUED, False)])
async def test_running(store, status, is_found):
    lease = Lease(token="t", worker="w", until=NOON)
    image = an_image(status=status, lease=lease if is_found else None)
    await keep(store, image, an_image())

    assert await store.running(limit=10) == [image] * is_found


@pytest.mark.parametrize("deleted_at", [None, NOON])
async def test_pending_events(store, deleted_at):
    image = an_image(status=Status.FAILED, pending_event=PENDING, deleted_at=deleted_at)
    await keep(store, image, an_image(status=Status.FAILED))

    assert await store.pending_events(since_before=NOON, limit=10) == []
    assert await store.pending_events(since_before=NOON + SECOND, limit=10) == [image]


async def test_overdue(store):
    old = [an_image(created_at=NOON - SECOND, status=status) for status in Status]
    await keep(store, *old, an_image(created_at=NOON))

    found = await store.overdue(NOON, limit=10)

    assert {image.status for image in found} == {Status.QUEUED, Status.RUNNING}
    assert len(found) == 2


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
async def test_overdue_counts_from_the_dispatch(store, status):
    old = an_image(created_at=NOON - 9 * SECOND, dispatched_at=NOON - SECOND, status=status)
    young = an_image(created_at=NOON - 9 * SECOND, dispatched_at=NOON, status=status)
    waiting = an_image(created_at=NOON - 9 * SECOND, waiting_since=NOON - 9 * SECOND)
    await keep(store, old, young, waiting)

    assert await store.overdue(NOON, limit=10) == [old]
    assert await store.waiting_overdue(NOON, limit=10) == [waiting]
    assert await store.waiting_overdue(NOON - 9 * SECOND, limit=10) == []


@pytest.mark.parametrize(
    ("fields", "is_found"),
    [
        ({}, True),
        ({"status": Status.FAILED}, True),
        ({"status": Status.CANCELLED}, True),
        ({"status": Status.QUEUED}, False),
        ({"status": Status.RUNNING}, False),
        ({"created_at": NOON}, False),
        ({"pinned": True}, False),
        ({"deleted_at": NOON}, False),
    ],
)
async def test_purgeable(store, fields, is_found):
    image = an_image(**{"created_at": NOON - SECOND, "status": Status.COMPLETED, **fields})
    await store.insert(image)

    assert await store.purgeable(NOON, limit=10) == [image] * is_found
    assert await store.count_purgeable(NOON) == is_found


async def test_unburied_and_tombstones(store):
    deleted = an_image(status=Status.COMPLETED, deleted_at=NOON)
    tombstones = an_image(status=Status.COMPLETED, deleted_at=NOON, tombstoned_at=NOON)
    pending_events = an_image(status=Status.COMPLETED, deleted_at=NOON, tombstoned_at=NOON, pending_event=PENDING)
    await keep(store, deleted, tombstones, pending_events, an_image(status=Status.COMPLETED))

    assert await store.awaiting_tombstone(deleted_before=NOON, limit=10) == []
    assert await store.awaiting_tombstone(deleted_before=NOON + SECOND, limit=10) == [deleted]
    assert await store.tombstones(tombstoned_before=NOON, limit=10) == []
    assert await store.tombstones(tombstoned_before=NOON + SECOND, limit=10) == [tombstones]


async def test_each_query_returns_the_oldest_first_up_to_the_limit(store):
    times = [NOON + SECOND * n for n in (2, 0, 3, 1)]
    later = NOON + 60 * SECOND
    queued = [an_image(created_at=moment) for moment in times]
    sent = [an_image(created_at=later, sent_at=moment) for moment in times]
    running = [
        an_image(created_at=later, status=Status.RUNNING, lease=Lease(token="t", worker="w", until=moment))
        for moment in times
    ]
    pending_events = [
        an_image(status=Status.FAILED, pinned=True, pending_event=PendingEvent(type="x", revision=1, since=moment))
        for moment in times
    ]
    final = [an_image(created_at=moment, status=Status.COMPLETED) for moment in times]
    deleted = [an_image(status=Status.COMPLETED, deleted_at=moment) for moment in times]
    tombstones = [an_image(status=Status.COMPLETED, deleted_at=NOON, tombstoned_at=moment) for moment in times]
    await keep(store, *queued, *sent, *running, *pending_events, *final, *deleted, *tombstones)

    answers = [
        (queued, await store.unsent(created_before=later, now=later, limit=2)),
        (sent, await store.sent_before(later, limit=2)),
        (running, await store.running(limit=2)),
        (pending_events, await store.pending_events(since_before=later, limit=2)),
        (queued, await store.overdue(later, limit=2)),
        (final, await store.purgeable(later, limit=2)),
        (deleted, await store.awaiting_tombstone(deleted_before=later, limit=2)),
        (tombstones, await store.tombstones(tombstoned_before=later, limit=2)),
    ]

    assert [answer for _, answer in answers] == [[records[1], records[3]] for records, _ in answers]


async def test_several_gives_those_on_record_and_tombstones_too(store):
    records = [an_image(), an_image(deleted_at=NOON, tombstoned_at=NOON)]
    await keep(store, *records, an_image())

    found = await store.get_several([*ids(records), an_image().id])

    assert found == {image.id: image for image in records}
    assert await store.get_several([]) == {}


async def test_completed_walks_by_id(store):
    records = [an_image(status=Status.COMPLETED) for _ in range(5)]
    await keep(store, *records, an_image(status=Status.FAILED), an_image(status=Status.COMPLETED, deleted_at=NOON))
    records.sort(key=lambda image: image.id)

    assert await store.completed(after_id="", limit=3) == records[:3]
    assert await store.completed(after_id=records[2].id, limit=3) == records[3:]
    assert await store.completed(after_id=records[4].id, limit=3) == []


async def test_times_are_compared_to_the_millisecond(store):
    now = NOON + 500 * MS
    old, new = (an_image(status=Status.COMPLETED, created_at=moment) for moment in (now - MS, now))
    due, early = (an_image(created_at=NOON, not_before=moment) for moment in (now, now + MS))
    await keep(store, old, new, due, early)

    found = [
        await store.purgeable(now, limit=10),
        await store.unsent(created_before=now, now=now, limit=10),
        await store.history("local", [Status.COMPLETED], limit=10, after=HistoryPosition(now, "")),
    ]

    assert found == [[old], [due], [old]]
