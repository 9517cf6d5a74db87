"""One record: inserted, replaced, removed, rejected if its keys are taken."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from common.domain import transitions
from common.domain.errors import Duplicate
from common.domain.images import Status
from tests.contract.store.records import LEASE, PICTURE, SECOND, keep, next_of
from tests.making import NOON, an_image


async def test_insert_keeps_the_record(store):
    image = an_image()

    await store.insert(image)

    assert await store.get(image.id) == image


async def test_get_finds_nothing_where_nothing_is(store):
    assert await store.get(an_image().id) is None


async def test_a_record_is_kept_through_all_its_moves(store):
    image = an_image(slot="local:0", idempotency="local:k", request_hash="h", traceparent="00-a-b-01")
    life = [
        partial(transitions.mark_sent, attempts=0, now=NOON),
        partial(transitions.claim, lease=LEASE, now=NOON, deadline=timedelta(hours=1)),
        partial(transitions.complete, lease=LEASE, attempt=1, picture=PICTURE, now=NOON + SECOND),
        partial(transitions.pin, pinned=True),
        partial(transitions.delete, now=NOON + 2 * SECOND),
        partial(transitions.tombstone, now=NOON + 3 * SECOND),
    ]
    await store.insert(image)

    for transition in life:
        image = transition(image)
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

    assert await store.count_history("local", [Status.QUEUED]) == 1


@pytest.mark.parametrize("key", ["slot", "idempotency"])
async def test_insert_refuses_a_key_that_is_taken(store, key):
    await store.insert(an_image(**{key: "local:0"}))
    second = an_image(**{key: "local:0"})

    with pytest.raises(Duplicate) as refused:
        await store.insert(second)

    assert refused.value.key == key
    assert await store.get(second.id) is None
    assert await store.count_history("local", [Status.QUEUED]) == 1


async def test_insert_reports_id_before_idempotency_before_slot(store):
    first = an_image(slot="local:0", idempotency="local:k")
    await store.insert(first)

    with pytest.raises(Duplicate) as by_key:
        await store.insert(an_image(slot="local:0", idempotency="local:k"))
    with pytest.raises(Duplicate) as by_id:
        await store.insert(next_of(first))

    assert (by_key.value.key, by_id.value.key) == ("idempotency", "id")


async def test_absent_keys_never_collide(store):
    await keep(store, *(an_image() for _ in range(3)))

    assert await store.count_history("local", [Status.QUEUED]) == 3


async def test_of_racing_inserts_one_gets_the_slot(store, other):
    async def insert(count):
        try:
            await (store, other)[count % 2].insert(an_image(slot="local:0"))
        except Duplicate as error:
            return error.key
        return None

    outcomes = await asyncio.gather(*map(insert, range(20)))

    assert sorted(outcomes, key=str) == [None] + ["slot"] * 19


async def test_a_released_slot_is_free(store):
    image = an_image(slot="local:0")
    await store.insert(image)

    assert await store.replace(transitions.cancel(image, now=NOON))

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


async def test_a_deleted_image_is_found_by_its_idempotency(store):
    image = an_image(idempotency="local:k")
    await keep(store, image, an_image())
    deleted = transitions.delete(image, now=NOON)
    await store.replace(deleted)

    assert await store.find_by_idempotency("local:k") == deleted
    assert await store.find_by_idempotency("local:other") is None
