"""Many records in one call."""

import asyncio

import pytest

from common.domain import transitions
from common.domain.images import Status
from common.store.sqlite import SqliteStore
from tests.contract.store.records import counted, ids, keep, next_of
from tests.making import NOON, an_image


async def test_replace_several_names_those_it_replaced(store):
    records = [an_image(slot=f"local:{n}") for n in range(5)]
    await keep(store, *records)
    await store.replace(counted(records[0]))
    cancelled = [transitions.cancel(image, now=NOON) for image in [*records, an_image()]]

    replaced = await store.replace_several(cancelled)

    assert replaced == set(ids(records[1:]))
    assert await store.get_several(ids(records)) == {
        records[0].id: counted(records[0]),
        **{image.id: image for image in cancelled[1:5]},
    }
    assert await store.count_history("local", [Status.CANCELLED]) == 4


async def test_replace_several_skips_a_duplicate_key(store):
    records = [an_image() for _ in range(3)]
    await keep(store, an_image(slot="local:0"), *records)

    replaced = await store.replace_several(
        [next_of(records[0]), next_of(records[1], slot="local:0"), next_of(records[2])]
    )

    assert replaced == {records[0].id, records[2].id}


@pytest.mark.long_unless("sqlite")
async def test_each_of_several_is_won_by_one_of_racing_callers(store, other):
    records = [an_image(status=Status.COMPLETED) for _ in range(100)]
    await keep(store, *records)
    deleted = [transitions.delete(image, now=NOON) for image in records]

    won = await asyncio.gather(*(each.replace_several(deleted) for each in (store, other, store)))

    assert sorted(image_id for some in won for image_id in some) == sorted(ids(records))


async def test_remove_several_removes_only_the_very_revisions(store):
    records = [an_image() for _ in range(4)]
    await keep(store, *records)
    await store.replace(counted(records[0]))

    assert await store.remove_several([*records, an_image()]) == 3

    assert await store.get_several(ids(records)) == {records[0].id: counted(records[0])}


async def test_nothing_is_done_for_none(store):
    assert await store.replace_several([]) == set()
    assert await store.remove_several([]) == 0


async def test_a_thousand_pass_in_one_call(store):
    """A hundred on MongoDB, whose stand-in takes 12 s of a core for a thousand."""
    count = 1000 if isinstance(store, SqliteStore) else 100
    records = [an_image(status=Status.COMPLETED) for _ in range(count)]
    await keep(store, *records)
    deleted = [transitions.delete(image, now=NOON) for image in records]

    assert len(await store.replace_several(deleted)) == count
    assert len(await store.get_several(ids(records))) == count
    assert await store.count_history("local", list(Status)) == 0
    assert await store.remove_several(deleted) == count
