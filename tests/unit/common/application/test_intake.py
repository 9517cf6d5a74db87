import asyncio
from datetime import timedelta

import pytest

from common.application.intake import Intake, image_from_command
from common.application.quota_store import QuotaStore
from common.domain import transitions
from common.domain.batches import missing_members
from common.domain.errors import Duplicate, Invalid, LimitReached
from common.domain.images import PendingEvent, Status, new_image_id
from common.domain.requests import GenerationRequest
from common.domain.turns import Line
from common.messages import GenerateImage
from tests.making import NOON, a_batch, an_image

REQUEST = GenerationRequest(prompt="a lighthouse")


@pytest.fixture
def quota(store, clock):
    return QuotaStore(kind="quota", limit=2, store=store, clock=clock)


def command(clock, **fields):
    now = clock.now()
    return GenerateImage(**{"id": new_image_id(now), "source": "shop", "time": now, "owner": "ada"} | fields)


def an_intake(quota, store, *, slots=0, places=None, mark="w"):
    return Intake(quota, store, Line(slots, places, mark))


async def counted(quota):
    return len((await quota.usage("ada")).entries)


async def test_record_counts_and_inserts_the_image(store, quota):
    image = an_image(owner="ada")

    recorded, window = await an_intake(quota, store).record(image, quota_key="ada")

    dispatched = image.model_copy(update={"dispatched_at": image.created_at})
    assert (recorded, window.ids) == (dispatched, [image.id])
    assert await store.get(image.id) == dispatched


async def test_a_repeated_image_keeps_its_one_entry_in_the_quota(store, quota):
    intake, image = an_intake(quota, store), an_image(owner="ada")
    await intake.record(image, quota_key="ada")

    with pytest.raises(Duplicate):  # a redelivery builds the record again, at a later time
        await intake.record(image.model_copy(update={"created_at": NOON + timedelta(seconds=1)}), quota_key="ada")

    assert await counted(quota) == 1


async def test_a_repeat_is_not_refused_for_its_own_place(store, quota):
    intake, image = an_intake(quota, store, slots=1, places=1), an_image(owner="ada")
    await intake.record(an_image(owner="ada"), quota_key="ada")
    await intake.record(image, quota_key="ada")

    with pytest.raises(Duplicate):
        await intake.record(image.model_copy(update={"created_at": NOON + timedelta(seconds=1)}), quota_key="ada")

    assert await counted(quota) == 2


async def test_a_refused_image_leaves_the_quota(store, quota):
    intake = an_intake(quota, store, slots=1)
    await intake.record(an_image(owner="ada", idempotency="ada:1"), quota_key="ada")

    with pytest.raises(LimitReached) as refused:
        await intake.record(an_image(owner="ada"), quota_key="ada")
    with pytest.raises(Duplicate) as duplicate:
        await an_intake(quota, store).record(an_image(owner="ada", idempotency="ada:1"), quota_key="ada")

    assert (refused.value.code, duplicate.value.key) == ("concurrent_limit", "idempotency")
    assert await counted(quota) == 1


async def test_a_full_quota_records_nothing(store, quota):
    intake = an_intake(quota, store)
    for _ in range(2):
        await intake.record(an_image(owner="ada"), quota_key="ada")

    with pytest.raises(LimitReached, match="2"):
        await intake.record(an_image(owner="ada"), quota_key="ada")

    assert await store.count_history("ada", set(Status)) == 2


async def recorded(intake, count, **fields):
    """The slots of the records of so many images, None for a refused one."""
    slots: list = []
    for _ in range(count):
        try:
            image, _ = await intake.record(an_image(owner="ada"), quota_key="ada", **fields)
        except LimitReached as refused:
            slots.append(refused.code)
        else:
            slots.append((image.slot, image.is_waiting, image.dispatched_at, image.pending_event))
    return slots


async def test_beyond_the_slots_images_wait_up_to_the_limit(store, clock):
    quota = QuotaStore(kind="quota", limit=0, store=store, clock=clock)

    found = await recorded(an_intake(quota, store, slots=2, places=2), 5)

    dispatched = [(f"ada:{number}", False, NOON, None) for number in range(2)]
    queued = PendingEvent(type="image.queued", revision=1, since=NOON)
    waiting = [(f"ada:w{number}", True, None, queued) for number in range(2)]
    assert [*found[:2], *sorted(found[2:4]), found[4]] == [*dispatched, *waiting, "waiting_limit"]


@pytest.mark.parametrize(("places", "may_wait"), [(None, True), (5, False)])
async def test_an_image_that_may_not_wait_is_refused(store, clock, places, may_wait):
    quota = QuotaStore(kind="quota", limit=0, store=store, clock=clock)

    found = await recorded(an_intake(quota, store, slots=1, places=places), 2, may_wait=may_wait)

    assert found == [("ada:0", False, NOON, None), "concurrent_limit"]


async def test_a_batch_that_may_not_wait_needs_free_slots(store, clock):
    quota = QuotaStore(kind="quota", limit=0, store=store, clock=clock)
    intake = an_intake(quota, store, slots=2)
    await intake.record(an_image(owner="ada"), quota_key="ada")

    with pytest.raises(LimitReached) as refused:
        await intake.record(a_batch(2, owner="ada"), quota_key="ada")

    assert refused.value.code == "concurrent_limit"


async def test_a_slot_is_not_taken_past_those_who_wait(store, clock):
    quota = QuotaStore(kind="quota", limit=0, store=store, clock=clock)
    by_bus, by_http = an_intake(quota, store, slots=1, places=0, mark="p"), an_intake(quota, store, slots=1, places=3)
    image, _ = await by_bus.record(an_image(owner="ada"), quota_key="ada")
    first, _ = await by_bus.record(an_image(owner="ada"), quota_key="ada")
    await store.replace(transitions.cancel(image, now=NOON))

    refused = await recorded(by_http, 1, may_wait=False)
    [waiting] = await recorded(by_http, 1)

    assert (first.slot, first.is_waiting) == (None, True)
    assert refused == ["concurrent_limit"]
    assert (waiting[0][:-1], waiting[1]) == ("ada:w", True)


async def test_a_long_line_is_filled_to_its_last_place(store, clock):
    quota = QuotaStore(kind="quota", limit=0, store=store, clock=clock)
    intake = an_intake(quota, store, slots=1, places=250)
    results = await asyncio.gather(
        *(intake.record(an_image(owner="ada"), quota_key="ada") for _ in range(260)), return_exceptions=True
    )

    assert sum(isinstance(result, LimitReached) for result in results) == 9
    assert await store.count_waiting("ada", limit=1000) == 250


async def test_a_request_for_several_is_admitted_as_a_whole(store, clock):
    """Five fit: two in slots, three in the line. The others of a request are recorded in places, or without one."""
    quota = QuotaStore(kind="quota", limit=6, store=store, clock=clock)
    intake = an_intake(quota, store, slots=2, places=3)
    batch = a_batch(5, owner="ada")
    others = missing_members(batch)

    with pytest.raises(Invalid) as never:
        await intake.record(a_batch(6, owner="ada"), quota_key="ada")
    first, window = await intake.record(batch, quota_key="ada")
    await intake.record_other(others[0])
    full = await recorded(intake, 1)
    with pytest.raises(LimitReached) as of_the_hour:
        await intake.record(a_batch(2, owner="ada"), quota_key="ada")

    assert (never.value.code, of_the_hour.value.code) == ("too_many_images", "hourly_limit")
    assert (first.slot, len(window.ids)) == ("ada:0", 5)
    assert list(await store.waiting_line("ada", limit=10)) == [each.id for each in others]
    assert await store.held_slots([f"ada:w{number}" for number in range(3)]) == {"ada:w0", "ada:w1", "ada:w2"}
    assert full == ["waiting_limit"]


def test_the_image_of_a_command_names_its_publisher(clock):
    sent = command(clock)

    image = image_from_command(sent, REQUEST, now=clock.now(), max_age_s=60)

    assert (image.id, image.owner, image.source, image.prompt) == (sent.id, "ada", "shop", "a lighthouse")
    assert image.sent_at is None


@pytest.mark.parametrize(
    ("fields", "age_s", "code"),
    [({"owner": None}, 0, "owner_missing"), ({"owner": " "}, 0, "invalid_owner"), ({}, 61, "order_expired")],
    ids=["no owner", "blank owner", "too old"],
)
def test_an_unacceptable_command_is_invalid(clock, fields, age_s, code):
    with pytest.raises(Invalid) as raised:
        image_from_command(command(clock, **fields), REQUEST, now=clock.now() + timedelta(seconds=age_s), max_age_s=60)

    assert raised.value.code == code
