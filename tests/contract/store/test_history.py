"""The history of an owner."""

from datetime import timedelta

import pytest

from common.domain import transitions
from common.domain.images import Batch, Status
from common.domain.search import HistoryFilter, HistoryPosition
from tests.contract.store.records import LEASE, MS, PICTURE, SECOND, keep
from tests.making import NOON, an_image


async def test_history_is_sorted_by_time_then_id_newest_first(store):
    moments = [NOON, NOON, NOON + MS, NOON - SECOND, NOON, NOON + SECOND]
    records = [an_image(created_at=moment) for moment in moments]
    await keep(store, *records)

    found = await store.history("local", [Status.QUEUED], limit=10)

    assert found == sorted(records, key=lambda image: (image.created_at, image.id), reverse=True)


async def test_history_is_filtered_by_owner_status_and_deletion(store):
    shown = an_image(status=Status.COMPLETED)
    await keep(
        store,
        shown,
        an_image(status=Status.FAILED),
        an_image(status=Status.COMPLETED, deleted_at=NOON),
        an_image(status=Status.COMPLETED, owner="another"),
    )

    assert await store.history("local", [Status.COMPLETED], limit=10) == [shown]
    assert await store.count_history("local", [Status.COMPLETED]) == 1
    assert await store.count_history("local", [Status.COMPLETED, Status.FAILED]) == 2
    assert await store.history("nobody", list(Status), limit=10) == []
    assert await store.count_history("nobody", list(Status)) == 0
    assert await store.history("local", [], limit=10) == []
    assert await store.count_history("local", []) == 0


def newest(image):
    return image.created_at, image.batch.index if image.batch else -1, image.id


async def test_history_of_one_batch(store):
    """A batch with a deleted, a foreign and a failed image, among other images of the same moment."""
    of_batch = {"status": Status.COMPLETED}
    members = [an_image(**of_batch, batch=Batch(id="b", index=index, count=5)) for index in range(5)]
    members[1] = members[1].model_copy(update={"deleted_at": NOON})
    members[2] = members[2].model_copy(update={"owner": "another"})
    members[3] = members[3].model_copy(update={"status": Status.FAILED})
    await keep(store, *members, an_image(**of_batch), an_image(**of_batch, batch=Batch(id="c", index=0, count=2)))
    position = HistoryPosition(NOON, members[4].id, index=4)

    assert await store.history("local", list(Status), limit=10, where=HistoryFilter(batch_id="b")) == [
        members[4],
        members[3],
        members[0],
    ]
    assert await store.history("local", [Status.COMPLETED], limit=10, where=HistoryFilter(batch_id="b")) == [
        members[4],
        members[0],
    ]
    assert await store.history("local", list(Status), limit=1, offset=1, where=HistoryFilter(batch_id="b")) == [
        members[3]
    ]
    assert await store.history("local", list(Status), limit=1, after=position, where=HistoryFilter(batch_id="b")) == [
        members[3]
    ]
    assert await store.history("local", [Status.COMPLETED], limit=10, where=HistoryFilter(batch_id="none")) == []
    assert await store.count_history("local", list(Status), where=HistoryFilter(batch_id="b")) == 3
    assert await store.count_history("local", [Status.COMPLETED], where=HistoryFilter(batch_id="b")) == 2
    assert await store.count_history("nobody", list(Status), where=HistoryFilter(batch_id="b")) == 0


@pytest.mark.parametrize("statuses", [[Status.COMPLETED], list(Status)])
async def test_history_pages_by_offset_and_by_position_alike(store, statuses):
    batch = [None, None, *(Batch(id="b", index=index, count=4) for index in range(4))]
    records = [
        an_image(created_at=NOON + SECOND * (n // 7), status=statuses[n % len(statuses)], batch=batch[n % len(batch)])
        for n in range(23)
    ]
    await keep(store, *records)
    whole = sorted(records, key=newest, reverse=True)

    by_offset = [await store.history("local", statuses, limit=5, offset=offset) for offset in range(0, 30, 5)]
    by_position, after = [], None
    while page := await store.history("local", statuses, limit=5, after=after):
        by_position.append(page)
        last = page[-1]
        after = HistoryPosition(last.created_at, last.id, index=last.batch.index if last.batch else None)

    assert [image for page in by_offset for image in page] == whole
    assert by_position == by_offset[:5]


async def test_history_continues_after_a_removed_image(store):
    records = [an_image(created_at=NOON - SECOND * n) for n in range(4)]
    await keep(store, *records)
    after = HistoryPosition(records[1].created_at, records[1].id)
    await store.remove(records[1])

    assert await store.history("local", [Status.QUEUED], limit=10, after=after) == records[2:]


async def test_the_count_follows_every_change(store):
    states = [[Status.QUEUED], [Status.RUNNING], [Status.COMPLETED], list(Status)]
    image = an_image()
    steps = [
        (store.insert, image),
        (store.replace, claimed := transitions.claim(image, lease=LEASE, now=NOON, deadline=timedelta(hours=1))),
        (store.replace, done := transitions.complete(claimed, lease=LEASE, attempt=1, picture=PICTURE, now=NOON)),
        (store.replace, pinned := transitions.pin(done, pinned=True)),
        (store.replace, deleted := transitions.delete(pinned, now=NOON)),
        (store.remove, deleted),
    ]

    seen = []
    for write, record in steps:
        await write(record)
        seen.append([await store.count_history("local", some) for some in states])

    assert seen == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
