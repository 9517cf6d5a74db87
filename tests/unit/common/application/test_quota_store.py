"""The hourly quota in the store: exact under concurrency, without failures of the service."""

import asyncio
from datetime import timedelta

import pytest

from common.application.quota_store import QuotaStore
from common.domain.batches import batch_ids
from common.domain.errors import LimitReached
from common.domain.images import Failure, Status, new_image_id
from common.store.port import Entry
from tests.making import a_batch, an_image


@pytest.fixture
def quota(store, clock):
    return QuotaStore(kind="quota", limit=5, store=store, clock=clock)


async def reserve_all(quota, ids):
    results = await asyncio.gather(*(quota.reserve("ada", each) for each in ids), return_exceptions=True)
    return [each for each, result in zip(ids, results, strict=True) if not isinstance(result, LimitReached)]


async def test_concurrent_reservations_stop_at_the_limit(quota):
    reserved = await reserve_all(quota, [f"image-{number}" for number in range(40)])

    assert len(reserved) == 5
    assert set((await quota.usage("ada")).ids) == set(reserved)
    assert (await quota.usage("bob")).ids == []


async def test_the_same_image_counts_once(quota):
    assert len(await reserve_all(quota, ["the same"] * 20)) == 20
    assert (await quota.usage("ada")).ids == ["the same"]


async def test_a_release_makes_room(quota):
    await reserve_all(quota, "abcde")
    await asyncio.gather(quota.release("ada", "a"), quota.release("ada", "b"), quota.release("ada", "nobody's"))

    assert await reserve_all(quota, "fgh") != []
    assert len((await quota.usage("ada")).ids) == 5


async def test_the_hour_slides(quota, store, clock):
    await reserve_all(quota, "abcde")
    for image_id in "abcde":
        await store.insert(an_image(id=image_id))
    clock.advance(3599)
    assert await reserve_all(quota, "f") == []

    clock.advance(1)

    assert await reserve_all(quota, "f") == ["f"]


@pytest.mark.parametrize("is_tombstone", [False, True])
async def test_failures_of_the_service_are_not_counted_in_a_full_hour(quota, store, clock, is_tombstone):
    """A tombstone too: deleting a failed image must not cost its owner a request."""
    ids = [new_image_id(clock.now() + timedelta(milliseconds=number)) for number in range(5)]
    codes = ["inference_failed", "deadline", "inference_refused", "bad_image", "worker_lost"]
    gone = {"deleted_at": clock.now(), "tombstoned_at": clock.now()} if is_tombstone else {}
    for image_id, code in zip(ids, codes, strict=True):
        error = Failure(code=code, detail="")
        await store.insert(an_image(id=image_id, status=Status.FAILED, error=error, **gone))
    await reserve_all(quota, ids)

    assert len((await quota.usage("ada")).ids) == 1, "only the rejected request counts"
    assert len(await reserve_all(quota, "abcdef")) == 4


async def test_without_a_limit_nothing_is_stored(store, clock):
    quota = QuotaStore(kind="quota", limit=0, store=store, clock=clock)

    assert len(await reserve_all(quota, "abcdefgh")) == 8
    assert await store.list_entries("quota") == []


async def test_an_old_window_is_removed_by_the_janitor(quota, store, clock):
    await reserve_all(quota, "abc")

    assert await store.remove_expired_entries(clock.now() + timedelta(hours=1)) == 0
    assert await store.remove_expired_entries(clock.now() + timedelta(hours=1, minutes=1)) == 1


@pytest.mark.border(rule="D3")
@pytest.mark.border(rule="B6")
@pytest.mark.parametrize(
    "code", ["bad_image", "inference_failed", "internal", "deadline", "worker_lost", "inference_unavailable"]
)
async def test_failures_are_forgiven_at_most_as_often_as_the_limit(quota, store, clock, code):
    """Each image fails after it was painted, so each may have cost as much as a good one."""
    admitted = 0
    for number in range(40):
        image_id = new_image_id(clock.now() + timedelta(milliseconds=number))
        if not await reserve_all(quota, [image_id]):
            break
        admitted += 1
        await store.insert(an_image(id=image_id, status=Status.FAILED, error=Failure(code=code, detail="")))

    assert admitted == 2 * quota.limit
    clock.advance(3600)
    assert await reserve_all(quota, ["later"]) == ["later"]


@pytest.mark.border(rule="D3")
async def test_an_image_that_was_never_inserted_is_forgiven(quota, store, clock):
    await reserve_all(quota, "abcde")  # the store went away before each insert
    assert await reserve_all(quota, "f") == []

    clock.advance(61)

    assert (await quota.usage("ada")).ids == []
    assert len(await reserve_all(quota, "fghij")) == 5


@pytest.mark.border(rule="D3")
@pytest.mark.parametrize("failed", [0, 3, 5])
async def test_any_number_of_images_without_a_record_is_forgiven(quota, store, clock, failed):
    """Nothing was painted for them, whatever was forgiven before."""
    images = [an_image(status=Status.FAILED, error=Failure(code="deadline", detail="")) for _ in range(failed)]
    for image in images:
        await store.insert(image)
    await reserve_all(quota, [image.id for image in images])
    for number in range(6):
        assert await reserve_all(quota, [f"{number}-{each}" for each in range(quota.limit)]) != []
        clock.advance(61)

    assert (await quota.usage("ada")).ids == []


@pytest.mark.border(rule="D3")
@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED, Status.RUNNING])
async def test_an_image_on_record_is_not_forgiven(quota, store, clock, status):
    made = [an_image(status=status) for _ in range(quota.limit)]
    for image in made:
        await store.insert(image)
    await reserve_all(quota, [image.id for image in made])

    clock.advance(61)

    assert await reserve_all(quota, "a") == []


async def test_what_a_batch_still_needs_is_not_forgiven(quota, store, clock):
    """The first of five is on record; the janitor will insert the others."""
    batch = a_batch(5, owner="ada", created_at=clock.now())
    await reserve_all(quota, batch_ids(batch))
    await store.insert(batch)

    clock.advance(61)

    assert sorted((await quota.usage("ada")).ids) == sorted(batch_ids(batch))
    assert await reserve_all(quota, "f") == []


async def test_an_entry_of_an_older_release_is_read(quota, store, clock):
    await reserve_all(quota, "ab")
    entry = await store.get_entry("quota", "ada")
    del entry.data["forgiven"]
    await store.put_entry(Entry("quota", "ada", entry.revision + 1, entry.data, entry.expires_at))

    assert len(await reserve_all(quota, "cdef")) == 3
