import asyncio
import json
import string
import sys
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import moves
from common.errors import Duplicate, NotFound, Refused
from common.images import EventDue, Failure, Format, Image, Lease, Parameters, Picture, Status
from common.store.port import Entry, Position, change
from tests.making import NOON, an_image

SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
LEASE = Lease(token="t", worker="w", until=NOON + 30 * SECOND)
PICTURE = Picture(
    image_file="generated_images/2025/01/x.png",
    thumbnail="thumbnails/2025/01/x.png",
    format=Format.PNG,
    file_size=9,
    width=64,
    height=64,
    generation_time=1.5,
)


def next_of(image: Image, **changes) -> Image:
    return image.model_copy(update={**changes, "revision": image.revision + 1})


def counted(image: Image) -> Image:
    return next_of(image, failures=image.failures + 1)


async def keep(store, *records: Image) -> None:
    await asyncio.gather(*map(store.insert, records))


def ids(records) -> list[str]:
    return [image.id for image in records]


# ---------------------------------------------------------------- one record


async def test_insert_keeps_the_record(store):
    image = an_image()

    await store.insert(image)

    assert await store.get(image.id) == image


async def test_get_finds_nothing_where_nothing_is(store):
    assert await store.get(an_image().id) is None


async def test_a_record_is_kept_through_all_its_moves(store):
    image = an_image(slot="local:0", idempotency="local:k", request_hash="h", traceparent="00-a-b-01")
    life = [
        partial(moves.sent, attempts=0, now=NOON),
        partial(moves.claim, lease=LEASE, now=NOON, deadline=timedelta(hours=1)),
        partial(moves.complete, lease=LEASE, attempt=1, picture=PICTURE, now=NOON + SECOND),
        partial(moves.pin, pinned=True),
        partial(moves.delete, now=NOON + 2 * SECOND),
        partial(moves.bury, now=NOON + 3 * SECOND),
    ]
    await store.insert(image)

    for move in life:
        image = move(image)
        assert await store.replace(image)

        assert await store.get(image.id) == image


async def test_insert_refuses_an_id_that_is_taken(store):
    image = an_image()
    await store.insert(image)

    with pytest.raises(Duplicate) as refused:
        await store.insert(image.model_copy(update={"prompt": "another"}))

    assert refused.value.key == "id"
    assert await store.get(image.id) == image


async def test_insert_takes_the_very_same_record_again(store):
    image = an_image(slot="local:0", idempotency="local:k")
    await store.insert(image)

    await store.insert(image)

    assert await store.total("local", [Status.QUEUED]) == 1


@pytest.mark.parametrize("key", ["slot", "idempotency"])
async def test_insert_refuses_a_key_that_is_taken(store, key):
    await store.insert(an_image(**{key: "local:0"}))
    second = an_image(**{key: "local:0"})

    with pytest.raises(Duplicate) as refused:
        await store.insert(second)

    assert refused.value.key == key
    assert await store.get(second.id) is None
    assert await store.total("local", [Status.QUEUED]) == 1


async def test_insert_names_the_id_before_the_idempotency_and_that_before_the_slot(store):
    first = an_image(slot="local:0", idempotency="local:k")
    await store.insert(first)

    with pytest.raises(Duplicate) as by_key:
        await store.insert(an_image(slot="local:0", idempotency="local:k"))
    with pytest.raises(Duplicate) as by_id:
        await store.insert(next_of(first))

    assert (by_key.value.key, by_id.value.key) == ("idempotency", "id")


async def test_absent_keys_never_collide(store):
    await keep(store, *(an_image() for _ in range(3)))

    assert await store.total("local", [Status.QUEUED]) == 3


async def test_of_racing_inserts_one_gets_the_slot(store, other):
    async def insert(count):
        try:
            await (store, other)[count % 2].insert(an_image(slot="local:0"))
        except Duplicate as error:
            return error.key
        return None

    outcomes = await asyncio.gather(*map(insert, range(20)))

    assert sorted(outcomes, key=str) == [None] + ["slot"] * 19


async def test_a_slot_that_a_move_lets_go_of_is_free(store):
    image = an_image(slot="local:0")
    await store.insert(image)

    assert await store.replace(moves.cancel(image, now=NOON))

    await store.insert(an_image(slot="local:0"))


async def test_replace_refuses_a_key_that_is_taken(store):
    image = an_image()
    await keep(store, an_image(slot="local:0"), image)

    with pytest.raises(Duplicate) as refused:
        await store.replace(next_of(image, slot="local:0"))

    assert refused.value.key == "slot"
    assert await store.get(image.id) == image


async def test_replace_takes_only_the_next_revision(store):
    image = an_image()
    await store.insert(image)
    second = next_of(image)
    third = next_of(second)

    outcomes = [await store.replace(each) for each in (image, third, second, second, third)]

    assert outcomes == [False, False, True, False, True]
    assert await store.get(image.id) == third


async def test_replace_makes_no_record(store):
    image = an_image()

    assert not await store.replace(next_of(image))

    assert await store.get(image.id) is None


async def test_remove_takes_only_the_very_revision(store):
    image = an_image()
    await store.insert(image)

    outcomes = [await store.remove(each) for each in (next_of(image), image, image)]

    assert outcomes == [False, True, False]
    assert await store.get(image.id) is None


async def test_find_gives_the_image_of_an_idempotency_even_deleted(store):
    image = an_image(idempotency="local:k")
    await keep(store, image, an_image())
    deleted = moves.delete(image, now=NOON)
    await store.replace(deleted)

    assert await store.find("local:k") == deleted
    assert await store.find("local:other") is None


# ---------------------------------------------------------------- compare and swap


async def test_of_racing_writers_exactly_one_wins_each_revision(store, other):
    image = an_image()
    await store.insert(image)

    for _ in range(3):
        rivals = [next_of(image, prompt=f"prompt {count}") for count in range(50)]
        outcomes = await asyncio.gather(
            *((store, other)[count % 2].replace(rival) for count, rival in enumerate(rivals))
        )

        assert outcomes.count(True) == 1
        image = rivals[outcomes.index(True)]
        assert await store.get(image.id) == image


async def test_change_applies_every_move_of_racing_writers(store, other):
    image = an_image()
    await store.insert(image)

    await asyncio.gather(*(change((store, other)[count % 2], image.id, counted) for count in range(50)))

    assert await store.get(image.id) == image.model_copy(update={"failures": 50, "revision": 51})


async def test_change_writes_nothing_where_the_move_changes_nothing(store):
    image = an_image()
    await store.insert(image)

    assert await change(store, image.id, lambda found: found) == image

    assert (await store.get(image.id)).revision == 1


async def test_change_lets_a_refusal_through(store):
    image = moves.cancel(an_image(), now=NOON)
    await store.insert(image)

    with pytest.raises(Refused):
        await change(store, image.id, partial(moves.cancel, now=NOON))
    with pytest.raises(NotFound):
        await change(store, an_image().id, partial(moves.cancel, now=NOON))


async def test_processes_share_the_store(store, store_url):
    image = an_image()
    await store.insert(image)
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", COUNTING, store_url, image.id) for _ in range(2)
    ]

    for _ in range(50):
        await change(store, image.id, counted)
    assert [await child.wait() for child in children] == [0, 0]

    assert await store.get(image.id) == image.model_copy(update={"failures": 150, "revision": 151})


COUNTING = """
import asyncio, sys
from common.store.connect import open_store
from common.store.port import change
async def main(url, image_id):
    move = lambda image: image.model_copy(update={"failures": image.failures + 1, "revision": image.revision + 1})
    async with open_store(url, timeout_s=20) as store:
        for _ in range(5):
            await asyncio.gather(*(change(store, image_id, move) for _ in range(10)))
asyncio.run(main(*sys.argv[1:]))
"""


# ---------------------------------------------------------------- history


async def test_history_is_newest_first_and_by_id_where_the_moment_is_the_same(store):
    moments = [NOON, NOON, NOON + MS, NOON - SECOND, NOON, NOON + SECOND]
    records = [an_image(created_at=moment) for moment in moments]
    await keep(store, *records)

    found = await store.history("local", [Status.QUEUED], limit=10)

    assert found == sorted(records, key=lambda image: (image.created_at, image.id), reverse=True)


async def test_history_shows_only_the_owners_in_these_states_and_none_deleted(store):
    shown = an_image(status=Status.COMPLETED)
    await keep(
        store,
        shown,
        an_image(status=Status.FAILED),
        an_image(status=Status.COMPLETED, deleted_at=NOON),
        an_image(status=Status.COMPLETED, owner="another"),
    )

    assert await store.history("local", [Status.COMPLETED], limit=10) == [shown]
    assert await store.total("local", [Status.COMPLETED]) == 1
    assert await store.total("local", [Status.COMPLETED, Status.FAILED]) == 2
    assert await store.history("nobody", list(Status), limit=10) == []
    assert await store.total("nobody", list(Status)) == 0
    assert await store.history("local", [], limit=10) == []
    assert await store.total("local", []) == 0


@pytest.mark.parametrize("statuses", [[Status.COMPLETED], list(Status)])
async def test_history_pages_by_offset_and_by_position_alike(store, statuses):
    records = [an_image(created_at=NOON + SECOND * (n // 4), status=statuses[n % len(statuses)]) for n in range(23)]
    await keep(store, *records)
    whole = sorted(records, key=lambda image: (image.created_at, image.id), reverse=True)

    by_offset = [await store.history("local", statuses, limit=5, offset=offset) for offset in range(0, 30, 5)]
    by_position, after = [], None
    while page := await store.history("local", statuses, limit=5, after=after):
        by_position.append(page)
        after = Position(page[-1].created_at, page[-1].id)

    assert [image for page in by_offset for image in page] == whole
    assert by_position == by_offset[:5]


async def test_history_from_a_position_bears_an_image_that_has_gone(store):
    records = [an_image(created_at=NOON - SECOND * n) for n in range(4)]
    await keep(store, *records)
    after = Position(records[1].created_at, records[1].id)
    await store.remove(records[1])

    assert await store.history("local", [Status.QUEUED], limit=10, after=after) == records[2:]


async def test_total_follows_every_change(store):
    states = [[Status.QUEUED], [Status.RUNNING], [Status.COMPLETED], list(Status)]
    image = an_image()
    steps = [
        (store.insert, image),
        (store.replace, claimed := moves.claim(image, lease=LEASE, now=NOON, deadline=timedelta(hours=1))),
        (store.replace, done := moves.complete(claimed, lease=LEASE, attempt=1, picture=PICTURE, now=NOON)),
        (store.replace, pinned := moves.pin(done, pinned=True)),
        (store.replace, deleted := moves.delete(pinned, now=NOON)),
        (store.remove, deleted),
    ]

    seen = []
    for write, record in steps:
        await write(record)
        seen.append([await store.total("local", some) for some in states])

    assert seen == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


# ---------------------------------------------------------------- what the janitor asks


DUE = EventDue(type="image.failed", revision=1, since=NOON)


@pytest.mark.parametrize(
    ("fields", "is_found"),
    [
        ({}, True),
        ({"sent_at": NOON}, True),
        ({"not_before": NOON}, True),
        ({"not_before": NOON + SECOND}, False),
        ({"status": Status.RUNNING}, False),
        ({"status": Status.CANCELLED, "deleted_at": NOON}, False),
    ],
)
async def test_waiting(store, fields, is_found):
    image = an_image(**fields)
    await store.insert(image)

    assert await store.waiting(NOON, limit=10) == [image.id] * is_found


async def test_who_waits_longest_stands_first_and_a_retry_behind_those_who_came_meanwhile(store):
    retried = an_image(not_before=NOON + 2 * SECOND)
    at_once = sorted([an_image(), an_image(), an_image(owner="another")], key=lambda image: image.id)
    order = ids([*at_once, an_image(created_at=NOON + SECOND), retried, an_image(created_at=NOON + 3 * SECOND)])
    await keep(store, retried, *at_once[::-1])
    await keep(store, an_image(id=order[5], created_at=NOON + 3 * SECOND))
    await keep(store, an_image(id=order[3], created_at=NOON + SECOND))

    assert await store.waiting(NOON + 3 * SECOND, limit=10) == order
    assert await store.waiting(NOON + 3 * SECOND, limit=4) == order[:4]
    assert await store.waiting(NOON + 2 * SECOND, limit=10) == order[:5]
    before = [await store.waiting_before(image.waits_since, image.id, limit=10) for image in [*at_once, retried]]
    assert before == [0, 1, 2, 4]
    assert await store.waiting_before(retried.waits_since, retried.id, limit=3) == 3


async def test_an_image_that_is_taken_waits_no_longer_and_one_that_is_given_back_waits_again(store):
    image, other = an_image(), an_image(created_at=NOON + SECOND)
    await keep(store, image, other)
    claimed = moves.claim(image, lease=LEASE, now=NOON + SECOND, deadline=timedelta(hours=1))

    await store.replace(claimed)
    taken = await store.waiting(NOON + 5 * SECOND, limit=10)
    await store.replace(moves.give_back(claimed, lease=LEASE, attempt=1, now=NOON + 2 * SECOND))

    assert taken == [other.id]
    assert await store.waiting(NOON + 5 * SECOND, limit=10) == [other.id, image.id]


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
    ],
)
async def test_sent_before(store, fields, is_found):
    image = an_image(**{"sent_at": NOON - SECOND, **fields})
    await store.insert(image)

    assert await store.sent_before(NOON, limit=10) == [image] * is_found


async def test_last_started_is_the_latest_that_a_worker_answered(store):
    assert await store.last_started() is None
    await keep(
        store,
        an_image(status=Status.COMPLETED, sent_at=NOON, started_at=NOON),
        an_image(status=Status.RUNNING, sent_at=NOON + SECOND, started_at=NOON + 2 * SECOND),
        an_image(sent_at=NOON + 5 * SECOND),
        an_image(sent_at=NOON + 4 * SECOND, started_at=NOON + 3 * SECOND),
        an_image(status=Status.CANCELLED, sent_at=NOON + 6 * SECOND),
        an_image(status=Status.RUNNING, started_at=NOON + 7 * SECOND),
    )

    assert await store.last_started() == NOON + SECOND


@pytest.mark.parametrize(("until", "is_found"), [(NOON - SECOND, True), (NOON, True), (NOON + SECOND, False)])
async def test_lapsed(store, until, is_found):
    image = an_image(status=Status.RUNNING, lease=Lease(token="t", worker="w", until=until))
    await keep(store, image, an_image())

    assert await store.lapsed(NOON, limit=10) == [image] * is_found


@pytest.mark.parametrize("deleted_at", [None, NOON])
async def test_owing(store, deleted_at):
    image = an_image(status=Status.FAILED, event_due=DUE, deleted_at=deleted_at)
    await keep(store, image, an_image(status=Status.FAILED))

    assert await store.owing(since_before=NOON, limit=10) == []
    assert await store.owing(since_before=NOON + SECOND, limit=10) == [image]


async def test_overdue(store):
    old = [an_image(created_at=NOON - SECOND, status=status) for status in Status]
    await keep(store, *old, an_image(created_at=NOON))

    found = await store.overdue(NOON, limit=10)

    assert {image.status for image in found} == {Status.QUEUED, Status.RUNNING}
    assert len(found) == 2


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
    buried = an_image(status=Status.COMPLETED, deleted_at=NOON, buried_at=NOON)
    owing = an_image(status=Status.COMPLETED, deleted_at=NOON, buried_at=NOON, event_due=DUE)
    await keep(store, deleted, buried, owing, an_image(status=Status.COMPLETED))

    assert await store.unburied(deleted_before=NOON, limit=10) == []
    assert await store.unburied(deleted_before=NOON + SECOND, limit=10) == [deleted]
    assert await store.tombstones(buried_before=NOON, limit=10) == []
    assert await store.tombstones(buried_before=NOON + SECOND, limit=10) == [buried]


async def test_the_janitor_is_given_the_oldest_first_and_no_more_than_it_asked_for(store):
    times = [NOON + SECOND * n for n in (2, 0, 3, 1)]
    later = NOON + 60 * SECOND
    queued = [an_image(created_at=moment) for moment in times]
    sent = [an_image(created_at=later, sent_at=moment) for moment in times]
    lapsed = [
        an_image(created_at=later, status=Status.RUNNING, lease=Lease(token="t", worker="w", until=moment))
        for moment in times
    ]
    owing = [
        an_image(status=Status.FAILED, pinned=True, event_due=EventDue(type="x", revision=1, since=moment))
        for moment in times
    ]
    final = [an_image(created_at=moment, status=Status.COMPLETED) for moment in times]
    deleted = [an_image(status=Status.COMPLETED, deleted_at=moment) for moment in times]
    buried = [an_image(status=Status.COMPLETED, deleted_at=NOON, buried_at=moment) for moment in times]
    await keep(store, *queued, *sent, *lapsed, *owing, *final, *deleted, *buried)

    answers = [
        (queued, await store.unsent(created_before=later, now=later, limit=2)),
        (sent, await store.sent_before(later, limit=2)),
        (lapsed, await store.lapsed(later, limit=2)),
        (owing, await store.owing(since_before=later, limit=2)),
        (queued, await store.overdue(later, limit=2)),
        (final, await store.purgeable(later, limit=2)),
        (deleted, await store.unburied(deleted_before=later, limit=2)),
        (buried, await store.tombstones(buried_before=later, limit=2)),
    ]

    assert [answer for _, answer in answers] == [[records[1], records[3]] for records, _ in answers]


async def test_several_gives_those_on_record_and_tombstones_too(store):
    records = [an_image(), an_image(deleted_at=NOON, buried_at=NOON)]
    await keep(store, *records, an_image())

    found = await store.several([*ids(records), an_image().id])

    assert found == {image.id: image for image in records}
    assert await store.several([]) == {}


async def test_completed_walks_by_id(store):
    records = [an_image(status=Status.COMPLETED) for _ in range(5)]
    await keep(store, *records, an_image(status=Status.FAILED), an_image(status=Status.COMPLETED, deleted_at=NOON))
    records.sort(key=lambda image: image.id)

    assert await store.completed(after_id="", limit=3) == records[:3]
    assert await store.completed(after_id=records[2].id, limit=3) == records[3:]
    assert await store.completed(after_id=records[4].id, limit=3) == []


async def test_times_are_compared_to_the_millisecond(store, wrong_on_stand_in):
    wrong_on_stand_in("compares times by the second")
    now = NOON + 500 * MS
    running = {"status": Status.RUNNING, "created_at": now}
    lapsed, leased = (
        an_image(**running, lease=Lease(token="t", worker="w", until=moment)) for moment in (now, now + MS)
    )
    old, new = (an_image(status=Status.COMPLETED, created_at=moment) for moment in (now - MS, now))
    due, early = (an_image(created_at=NOON, not_before=moment) for moment in (now, now + MS))
    await keep(store, lapsed, leased, old, new, due, early)

    found = [
        await store.lapsed(now, limit=10),
        await store.purgeable(now, limit=10),
        await store.unsent(created_before=now, now=now, limit=10),
        await store.history("local", [Status.COMPLETED], limit=10, after=Position(now, "")),
    ]

    assert found == [[lapsed], [old], [due], [old]]


# ---------------------------------------------------------------- many at once


async def test_replace_several_names_those_it_replaced(store):
    records = [an_image(slot=f"local:{n}") for n in range(5)]
    await keep(store, *records)
    await store.replace(counted(records[0]))
    cancelled = [moves.cancel(image, now=NOON) for image in [*records, an_image()]]

    replaced = await store.replace_several(cancelled)

    assert replaced == set(ids(records[1:]))
    assert await store.several(ids(records)) == {
        records[0].id: counted(records[0]),
        **{image.id: image for image in cancelled[1:5]},
    }
    assert await store.total("local", [Status.CANCELLED]) == 4


async def test_replace_several_passes_over_a_key_that_is_taken(store):
    records = [an_image() for _ in range(3)]
    await keep(store, an_image(slot="local:0"), *records)

    replaced = await store.replace_several(
        [next_of(records[0]), next_of(records[1], slot="local:0"), next_of(records[2])]
    )

    assert replaced == {records[0].id, records[2].id}


async def test_each_of_several_is_won_by_one_of_racing_callers(store, other):
    records = [an_image(status=Status.COMPLETED) for _ in range(100)]
    await keep(store, *records)
    deleted = [moves.delete(image, now=NOON) for image in records]

    won = await asyncio.gather(*(each.replace_several(deleted) for each in (store, other, store)))

    assert sorted(image_id for some in won for image_id in some) == sorted(ids(records))


async def test_remove_several_removes_only_the_very_revisions(store):
    records = [an_image() for _ in range(4)]
    await keep(store, *records)
    await store.replace(counted(records[0]))

    assert await store.remove_several([*records, an_image()]) == 3

    assert await store.several(ids(records)) == {records[0].id: counted(records[0])}


async def test_nothing_is_done_for_none(store):
    assert await store.replace_several([]) == set()
    assert await store.remove_several([]) == 0


async def test_a_thousand_pass_in_one_call(store):
    records = [an_image(status=Status.COMPLETED) for _ in range(1000)]
    await keep(store, *records)
    deleted = [moves.delete(image, now=NOON) for image in records]

    assert len(await store.replace_several(deleted)) == 1000
    assert len(await store.several(ids(records))) == 1000
    assert await store.total("local", list(Status)) == 0
    assert await store.remove_several(deleted) == 1000


# ---------------------------------------------------------------- entries


def an_entry(**fields) -> Entry:
    return Entry(
        **{"kind": "quota", "key": "local", "revision": 1, "data": {"times": [1.5, 2], "a": {"b": True}}, **fields}
    )


async def test_an_entry_is_kept_and_replaced_by_its_next_revision(store):
    first = an_entry()
    second = an_entry(revision=2, data={"text": "é🦊"}, expires_at=NOON)
    outcomes = [await store.put(each) for each in (second, first, first, second, second)]

    assert outcomes == [False, True, False, True, False]
    assert await store.entry("quota", "local") == second
    assert await store.put(an_entry(revision=3))
    assert await store.entry("quota", "local") == an_entry(revision=3)


async def test_entries_are_those_of_the_kind(store):
    assert await store.entries("key") == []
    kept = [an_entry(kind="key", key=key) for key in ("b:c", "a", "c")]
    for entry in [*kept, an_entry(kind="timer", key="a")]:
        await store.put(entry)

    assert await store.entries("key") == [kept[1], kept[0], kept[2]]
    assert await store.entry("key", "none") is None
    assert await store.entry("timer", "a") == an_entry(kind="timer", key="a")


async def test_of_racing_writers_of_an_entry_exactly_one_wins(store, other):
    for revision in (1, 2, 3):
        rivals = [an_entry(revision=revision, data={"rival": count}) for count in range(50)]
        outcomes = await asyncio.gather(*((store, other)[n % 2].put(rival) for n, rival in enumerate(rivals)))

        assert outcomes.count(True) == 1
        assert await store.entry("quota", "local") == rivals[outcomes.index(True)]


async def test_of_racing_callers_exactly_one_discards_an_entry(store, other):
    await store.put(an_entry())

    outcomes = await asyncio.gather(*((store, other)[n % 2].discard("quota", "local") for n in range(20)))

    assert outcomes.count(True) == 1
    assert await store.entry("quota", "local") is None
    assert await store.put(an_entry())


async def test_expire_drops_what_has_expired(store):
    moments = {"past": NOON - SECOND, "now": NOON, "soon": NOON + SECOND, "never": None}
    for key, moment in moments.items():
        await store.put(an_entry(key=key, expires_at=moment))

    assert await store.expire(NOON) == 2

    assert {entry.key for entry in await store.entries("quota")} == {"soon", "never"}


async def test_check_answers(store):
    await store.check()


# ---------------------------------------------------------------- every value as it came


zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-8))])
seconds = st.integers(0, 32_000_000_000)  # to the year 2984
moments = st.builds(lambda s, ms, zone: datetime.fromtimestamp(s, zone) + ms * MS, seconds, st.integers(0, 999), zones)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
names = st.text(string.ascii_letters + string.digits + "-_:.$/ é", min_size=1, max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63 - 1)
leases = st.builds(Lease, token=texts, worker=texts, until=moments)
records = st.builds(
    an_image,
    owner=texts,
    prompt=texts | st.just("huge 🦊 " * 5000),
    negative_prompt=texts,
    model=texts,
    width=st.integers(1, 2**31),
    parameters=st.builds(
        Parameters, steps=integers, cfg_scale=floats, sampler=texts, seed=integers, hires_fix=st.booleans()
    ),
    status=st.sampled_from(Status),
    created_at=moments,
    pinned=st.booleans(),
    not_before=st.none() | moments,
    lease=st.none() | leases,
    error=st.none() | st.builds(Failure, code=texts, detail=texts),
    format=st.none() | st.sampled_from(Format),
    file_size=st.none() | integers,
    generation_time=st.none() | floats,
    started_at=st.none() | moments,
    sent_at=st.none() | moments,
    deleted_at=st.none() | moments,
    event_due=st.none() | st.builds(EventDue, type=texts, revision=integers, since=moments),
)
scalars = st.booleans() | integers | floats | texts
data = st.dictionaries(
    names.filter(lambda name: not name.startswith("$")),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)),
    max_size=4,
)
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(image=records)
async def test_a_record_is_read_as_it_was_written(store, image):
    await store.insert(image)

    found = await store.get(image.id)

    assert found == image
    assert {type(found.pinned), type(found.parameters.hires_fix)} == {bool}
    assert (type(found.status), type(found.parameters.cfg_scale)) == (Status, float)
    assert found.created_at.utcoffset() == timedelta(0)


@many
@given(data=data)
async def test_the_data_of_an_entry_are_read_as_they_were_written(store, data):
    key = json.dumps(data)[:200]
    await store.discard("quota", key)
    await store.put(an_entry(key=key, data=data))

    found = await store.entry("quota", key)

    assert json.dumps(found.data, sort_keys=True) == json.dumps(data, sort_keys=True)
