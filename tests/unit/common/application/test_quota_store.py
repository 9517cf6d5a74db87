"""The hour of one key in the store: exact for many at once, and generous only where the fault was ours."""

import asyncio
from datetime import timedelta

import pytest

from common.application.quota_store import QuotaStore
from common.domain.errors import LimitReached
from common.domain.images import Failure, Status, new_image_id
from common.runtime.clock import ManualClock
from common.store.sqlite import SqliteStore
from tests.making import an_image


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield store


@pytest.fixture
def book(store, clock):
    return QuotaStore(kind="quota", limit=5, store=store, clock=clock)


async def enter_all(book, ids):
    results = await asyncio.gather(*(book.reserve("ada", each) for each in ids), return_exceptions=True)
    return [each for each, result in zip(ids, results, strict=True) if not isinstance(result, LimitReached)]


async def test_of_many_at_once_exactly_the_limit_enter(book):
    entered = await enter_all(book, [f"image-{number}" for number in range(40)])

    assert len(entered) == 5
    assert set((await book.usage("ada")).ids) == set(entered)
    assert (await book.usage("bob")).ids == []


async def test_the_same_order_counts_once(book):
    assert len(await enter_all(book, ["the same"] * 20)) == 20
    assert (await book.usage("ada")).ids == ["the same"]


async def test_what_was_taken_back_makes_room(book):
    await enter_all(book, "abcde")
    await asyncio.gather(book.release("ada", "a"), book.release("ada", "b"), book.release("ada", "nobody's"))

    assert await enter_all(book, "fgh") != []
    assert len((await book.usage("ada")).ids) == 5


async def test_the_hour_slides(book, clock):
    await enter_all(book, "abcde")
    clock.advance(3599)
    assert await enter_all(book, "f") == []

    clock.advance(1)

    assert await enter_all(book, "f") == ["f"]


@pytest.mark.parametrize("is_tombstone", [False, True])
async def test_failures_of_ours_are_forgiven_when_the_hour_is_full(book, store, clock, is_tombstone):
    """A tombstone too: who deletes a failed image does not lose its order."""
    ids = [new_image_id(clock.now() + timedelta(milliseconds=number)) for number in range(5)]
    codes = ["inference_failed", "deadline", "inference_refused", "bad_image", "worker_lost"]
    gone = {"deleted_at": clock.now(), "tombstoned_at": clock.now()} if is_tombstone else {}
    for image_id, code in zip(ids, codes, strict=True):
        error = Failure(code=code, detail="")
        await store.insert(an_image(id=image_id, status=Status.FAILED, error=error, **gone))
    await enter_all(book, ids)

    assert len((await book.usage("ada")).ids) == 1, "only what was refused counts"
    assert len(await enter_all(book, "abcdef")) == 4


async def test_no_limit_keeps_no_book(store, clock):
    book = QuotaStore(kind="quota", limit=0, store=store, clock=clock)

    assert len(await enter_all(book, "abcdefgh")) == 8
    assert await store.list_entries("quota") == []


async def test_an_hour_that_is_over_is_dropped_by_the_janitor(book, store, clock):
    await enter_all(book, "abc")

    assert await store.remove_expired_entries(clock.now() + timedelta(hours=1)) == 0
    assert await store.remove_expired_entries(clock.now() + timedelta(hours=1, minutes=1)) == 1
