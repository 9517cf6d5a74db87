"""The queries of one pool, or of the models that have a generator."""

import time
from functools import partial

import pytest

from common.domain import transitions
from common.domain.images import Batch, Status
from common.store.port import change
from common.store.sqlite import SqliteStore
from tests.contract.store.records import SECOND, ids, keep
from tests.making import NOON, an_image

LATER = NOON + 10 * SECOND


def waiting(**fields):
    return an_image(**{"waiting_since": NOON, **fields})


async def test_the_queue_of_a_pool_holds_its_images_only(store):
    """A record without a pool is of `default`, as those of older releases are."""
    of_default = [an_image(created_at=NOON + number * SECOND) for number in range(3)]
    of_flux = [an_image(created_at=NOON + number * SECOND, pool="flux") for number in range(2)]
    running = an_image(status=Status.RUNNING, pool="flux")
    await keep(store, *reversed(of_default), *reversed(of_flux), running)
    await keep(store, waiting(pool="other"), an_image(status=Status.COMPLETED, pool="other"))

    assert await store.queued_pools() == ["default", "flux"]
    for pool, found in (("default", of_default), ("flux", of_flux), ("other", [])):
        assert await store.queued_ids(LATER, limit=5, pool=pool) == ids(found)
        assert await store.dispatched_to(pool, limit=5) == found
        assert await store.dispatched_to(pool, limit=1) == found[:1]
        before = [await store.count_queued_before(each.queued_since, each.id, limit=5, pool=pool) for each in found]
        assert before == list(range(len(found)))
    assert [await store.count_dispatched(limit=5, pool=pool) for pool in ("default", "flux", "other")] == [3, 3, 0]
    assert [await store.count_dispatched(limit=limit, pool="flux") for limit in (2, 9)] == [2, 3]
    assert [await store.count_dispatched(limit=limit, pool=None) for limit in (2, 9)] == [2, 6]


async def test_commands_are_found_by_their_pool(store):
    unsent = {pool: an_image(pool=pool, created_at=NOON - SECOND) for pool in (None, "flux")}
    sent = {pool: an_image(pool=pool, sent_at=NOON - SECOND) for pool in (None, "flux")}
    started_at = {None: NOON, "flux": NOON + SECOND}
    await keep(store, *unsent.values(), *sent.values())
    for pool, at in started_at.items():
        await keep(store, an_image(status=Status.RUNNING, sent_at=at, started_at=at, pool=pool))

    for pool, name in ((None, "default"), ("flux", "flux")):
        assert await store.unsent(created_before=NOON, now=NOON, limit=5, pool=name) == [unsent[pool]]
        assert await store.sent_before(NOON, limit=5, pool=name) == [sent[pool]]
        assert await store.latest_started_sent_at(name) == started_at[pool]
    assert await store.latest_started_sent_at("other") is None


async def test_the_pool_is_noted_at_the_dispatch_and_the_send(store):
    """`default` is stored as no pool, so processes of older releases read the same."""
    image = waiting()
    await store.insert(image)

    await change(store, image.id, partial(transitions.dispatch, slot=None, now=NOON, pool="flux"))
    assert (await store.get(image.id)).pool == "flux"
    sent = partial(transitions.mark_sent, attempts=0, now=NOON, dispatched_at=NOON, pool="default")
    moved = await change(store, image.id, sent)
    assert ((await store.get(image.id)).pool, moved.work_pool) == (None, "default")
    await change(store, image.id, partial(transitions.set_waiting, now=NOON))
    assert (await store.queued_pools(), (await store.get(image.id)).pool) == ([], None)


async def test_the_next_of_some_models(store):
    """The order over several models is that of the turns; the line names each model, the list each once."""
    batch = [waiting(id=f"b{index}", model="b", batch=Batch(id="b0", index=index, count=2)) for index in range(2)]
    early, late = waiting(model="a", created_at=NOON - SECOND), waiting(model="a", created_at=NOON + SECOND)
    delayed, other = waiting(model="c", not_before=LATER), waiting(owner="another", model="d")
    await keep(store, late, *reversed(batch), early, delayed, other, an_image(model="e"))

    assert await store.waiting_models("local") == ["a", "b", "c"]
    assert await store.waiting_models("nobody") == []
    for models, found in (
        (["a", "b"], [early, *batch, late]),
        (["b"], batch),
        (["c"], []),
        (["d", "x"], []),
        ([], []),
    ):
        assert await store.next_waiting("local", now=NOON, limit=9, models=models) == found
    assert await store.next_waiting("local", now=NOON, limit=2, models=["b", "a"]) == [early, batch[0]]
    assert await store.next_waiting("local", now=LATER, limit=9, models=["c"]) == [delayed]
    line = await store.waiting_line("local", limit=9)
    assert next(iter(line)) == early.id
    assert line == {each.id: each.model for each in (early, late, *batch, delayed)}


@pytest.mark.long
async def test_images_of_a_missing_model_cost_the_others_nothing(tmp_path):
    """30,000 of them wait before one of another model. The stand-in for MongoDB has no index of several fields."""
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=30) as store:
        await _cost_nothing(store)


async def _cost_nothing(store):
    for _ in range(30):
        await keep(store, *(waiting(model="gone") for _ in range(1_000)))
    last = waiting(model="here", created_at=LATER)
    await keep(store, last)

    began_s = time.perf_counter()
    assert await store.waiting_models("local") == ["gone", "here"]
    assert await store.next_waiting("local", now=NOON, limit=2, models=["here"]) == [last]
    assert time.perf_counter() - began_s < 0.2
