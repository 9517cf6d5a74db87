"""The queries of waiting images and batches."""

from common.domain import transitions
from common.domain.images import Batch, Status
from tests.contract.store.records import SECOND, ids, keep, next_of
from tests.making import NOON, an_image


def waiting(**fields):
    return an_image(**{"waiting_since": NOON, **fields})


async def test_waiting_images_are_sorted_by_turn(store):
    """Records of two owners are inserted in reverse; the order is by time, then index in the batch, then id."""
    early = waiting(created_at=NOON - SECOND)
    batch = [waiting(id=f"b{9 - index}", batch=Batch(id="b9", index=index, count=3)) for index in range(3)]
    late = sorted([waiting(created_at=NOON + SECOND) for _ in range(2)], key=lambda image: image.id)
    in_order = [early, *batch, *late]
    await keep(store, *reversed(in_order))
    await keep(store, waiting(owner="another"), an_image(), an_image(status=Status.RUNNING))

    assert await store.next_waiting("local", now=NOON, limit=10) == in_order
    assert await store.next_waiting("local", now=NOON, limit=2) == in_order[:2]
    assert list(await store.waiting_line("local", limit=10)) == ids(in_order)
    assert list(await store.waiting_line("local", limit=3)) == ids(in_order[:3])
    assert [await store.count_waiting("local", limit=limit) for limit in (10, 4)] == [6, 4]
    assert await store.next_waiting("nobody", now=NOON, limit=10) == []
    assert await store.count_waiting("nobody", limit=10) == 0


async def test_an_image_is_not_next_before_its_time(store):
    delayed, other = waiting(not_before=NOON + SECOND), waiting(created_at=NOON + SECOND)
    await keep(store, delayed, other)

    assert await store.next_waiting("local", now=NOON, limit=10) == [other]
    assert await store.next_waiting("local", now=NOON + SECOND, limit=10) == [delayed, other]
    assert await store.count_waiting("local", limit=10) == 2


async def test_owners_who_wait_are_listed_in_pages(store):
    owners = ["a", "a:0", "b", "café", "d"]
    await keep(store, *(waiting(owner=owner) for owner in [*owners, *owners]), an_image(owner="c"))

    assert await store.owners_waiting(after="", limit=10) == sorted(owners)
    assert await store.owners_waiting(after="", limit=2) == ["a", "a:0"]
    assert await store.owners_waiting(after="a:0", limit=2) == ["b", "café"]
    assert await store.owners_waiting(after="d", limit=2) == []


async def test_a_dispatched_image_waits_no_longer(store):
    image, ended, deleted = waiting(), waiting(), waiting()
    await keep(store, image, ended, deleted)

    await store.replace(transitions.dispatch(image, slot="local:0", now=NOON + SECOND))
    await store.replace(transitions.cancel(ended, now=NOON))
    await store.replace(transitions.delete(deleted, now=NOON))

    assert list(await store.waiting_line("local", limit=10)) == []
    assert await store.owners_waiting(after="", limit=10) == []
    assert await store.queued_ids(NOON + SECOND, limit=10) == [image.id]
    assert await store.unsent(created_before=NOON + SECOND, now=NOON, limit=10) == [
        transitions.dispatch(image, slot="local:0", now=NOON + SECOND)
    ]


async def test_held_slots(store):
    await keep(store, an_image(slot="local:0"), an_image(slot="local:w3"), an_image(slot="another:1"))

    assert await store.held_slots(["local:0", "local:1", "local:w3", "another:0"]) == {"local:0", "local:w3"}
    assert await store.held_slots([]) == set()


async def test_incomplete_batches_are_sorted_by_age(store):
    old, older, new = (an_image(batch_due=NOON + n * SECOND) for n in (-1, -2, 0))
    await keep(store, old, older, new, an_image())

    assert await store.incomplete_batches(due_before=NOON, limit=10) == [older, old]
    assert await store.incomplete_batches(due_before=NOON, limit=1) == [older]
    await store.replace(next_of(older, batch_due=None))
    assert await store.incomplete_batches(due_before=NOON, limit=10) == [old]


async def test_members_of_a_batch_are_all_found_by_index(store):
    members = [waiting(batch=Batch(id="b", index=index, count=3)) for index in range(3)]
    tombstone = members[1].model_copy(update={"status": Status.CANCELLED, "deleted_at": NOON, "tombstoned_at": NOON})
    await keep(store, members[2], tombstone, members[0], waiting(batch=Batch(id="c", index=0, count=1)), an_image())

    assert await store.batch_members("b") == [members[0], tombstone, members[2]]
    assert await store.batch_members("d") == []
