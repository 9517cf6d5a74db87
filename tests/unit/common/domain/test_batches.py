"""The images of a batch, as they are made from the first."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import transitions
from common.domain.batches import MAX_BATCH, SHARED, batch_ids, mark_complete, member_id, missing_members
from common.domain.errors import InvalidTransition
from common.domain.images import Batch, Image, Parameters, Status, parse_image_id
from common.domain.requests import MAX_SEED
from tests.making import NOON, a_batch, an_image

# what happens to one image alone
OWN = {
    "id",
    "status",
    "revision",
    "attempts",
    "failures",
    "refused",
    "lost",
    "pinned",
    "not_before",
    "lease",
    "backend",
    "pool",
    "error",
    "image_file",
    "thumbnail",
    "format",
    "file_size",
    "generation_time",
    "started_at",
    "finished_at",
    "deleted_at",
    "tombstoned_at",
    "slot",
    "idempotency",
    "request_hash",
    "waiting_since",
    "dispatched_at",
    "sent_at",
    "batch",
    "batch_due",
    "pending_event",
}


def with_seed(seed):
    return Parameters(steps=4, cfg_scale=7.5, sampler="Euler", seed=seed, hires_fix=False)


def test_each_field_is_shared_or_of_one_image():
    assert set(Image.model_fields) == {*SHARED, *OWN}


def test_one_image_is_no_batch():
    image = an_image()

    assert missing_members(image) == []
    assert batch_ids(image) == [image.id]


def test_members_are_the_request_with_seeds_of_their_own():
    first = a_batch(parameters=with_seed(MAX_SEED - 1), traceparent="00-a-b-01", idempotency="k", request_hash="h")

    members = missing_members(first)

    assert [image.id for image in [first, *members]] == batch_ids(first)
    assert [image.parameters.seed for image in members] == [MAX_SEED, 0, 1]
    assert [image.batch for image in members] == [Batch(id=first.id, index=n, count=4) for n in (1, 2, 3)]
    assert (first.batch, first.batch_due) == (Batch(id=first.id, index=0, count=4), NOON)
    assert members[0] == an_image(
        id=members[0].id, parameters=with_seed(MAX_SEED), batch=members[0].batch, traceparent="00-a-b-01"
    )


def test_members_do_not_depend_on_what_became_of_the_first():
    first = a_batch()
    painted = transitions.cancel(transitions.pin(first, pinned=True), now=NOON)
    deleted = transitions.delete(painted, now=NOON)

    assert missing_members(deleted) == missing_members(first)


def test_a_completed_batch_misses_nothing():
    completed = mark_complete(a_batch())

    assert missing_members(completed) == []
    assert mark_complete(completed) is completed
    assert len(batch_ids(completed)) == 4


def test_a_batch_is_no_tombstone_before_its_batch_is_complete():
    deleted = transitions.delete(a_batch(), now=NOON)

    with pytest.raises(InvalidTransition) as refused:
        transitions.tombstone(deleted, now=NOON)

    assert refused.value.code == "batch_due"
    assert transitions.tombstone(mark_complete(deleted), now=NOON).tombstoned_at == NOON


@given(st.uuids(), st.integers(1, MAX_BATCH))
def test_ids_are_canonical_and_differ(first_id, count):
    """From any UUID that a publisher may choose: the ids of the others are UUIDv7 of the same time."""
    first = a_batch(count, id=str(first_id), created_at=NOON)
    ids = batch_ids(first)

    assert len(set(ids)) == count
    assert all(parse_image_id(image_id) == image_id for image_id in ids)
    assert ids == [member_id(first.id, index) for index in range(count)]
    assert {(UUID(image_id).version, UUID(image_id).time_low) for image_id in ids[1:]} <= {(7, first_id.time_low)}
    assert all(image.status is Status.QUEUED for image in missing_members(first))
