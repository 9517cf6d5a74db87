from datetime import timedelta

import pytest

from common.application.intake import Intake, image_from_command
from common.application.quota_store import QuotaStore
from common.domain.errors import Duplicate, Invalid, LimitReached
from common.domain.images import Status, new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from tests.making import NOON, an_image

REQUEST = GenerationRequest(prompt="a lighthouse")


@pytest.fixture
def quota(store, clock):
    return QuotaStore(kind="quota", limit=2, store=store, clock=clock)


def command(clock, **fields):
    now = clock.now()
    return GenerateImage(**{"id": new_image_id(now), "source": "shop", "time": now, "owner": "ada"} | fields)


async def counted(quota):
    return len((await quota.usage("ada")).entries)


async def test_record_counts_and_inserts_the_image(store, quota):
    image = an_image(owner="ada")

    recorded, window = await Intake(quota, store).record(image, quota_key="ada")

    assert (recorded, window.ids) == (image, [image.id])
    assert await store.get(image.id) == image


async def test_a_repeated_image_keeps_its_one_entry_in_the_quota(store, quota):
    intake, image = Intake(quota, store), an_image(owner="ada")
    await intake.record(image, quota_key="ada")

    with pytest.raises(Duplicate):  # a redelivery builds the record again, at a later time
        await intake.record(image.model_copy(update={"created_at": NOON + timedelta(seconds=1)}), quota_key="ada")

    assert await counted(quota) == 1


async def test_a_refused_image_leaves_the_quota(store, quota):
    intake = Intake(quota, store, slots=1)
    await intake.record(an_image(owner="ada", idempotency="ada:1"), quota_key="ada")

    with pytest.raises(LimitReached) as refused:
        await intake.record(an_image(owner="ada"), quota_key="ada")
    with pytest.raises(Duplicate) as duplicate:
        await Intake(quota, store).record(an_image(owner="ada", idempotency="ada:1"), quota_key="ada")

    assert (refused.value.code, duplicate.value.key) == ("concurrent_limit", "idempotency")
    assert await counted(quota) == 1


async def test_a_full_quota_records_nothing(store, quota):
    intake = Intake(quota, store)
    for _ in range(2):
        await intake.record(an_image(owner="ada"), quota_key="ada")

    with pytest.raises(LimitReached, match="2"):
        await intake.record(an_image(owner="ada"), quota_key="ada")

    assert await store.count_history("ada", set(Status)) == 2


def test_the_image_of_a_command_names_its_publisher(clock):
    sent = command(clock)

    image = image_from_command(sent, REQUEST, now=clock.now(), max_age_s=60)

    assert (image.id, image.owner, image.source, image.prompt) == (sent.id, "ada", "shop", "a lighthouse")
    assert image.sent_at == clock.now()


@pytest.mark.parametrize(
    ("fields", "age_s", "code"),
    [({"owner": None}, 0, "owner_missing"), ({"owner": " "}, 0, "invalid_owner"), ({}, 61, "order_expired")],
    ids=["no owner", "blank owner", "too old"],
)
def test_an_unacceptable_command_is_invalid(clock, fields, age_s, code):
    with pytest.raises(Invalid) as raised:
        image_from_command(command(clock, **fields), REQUEST, now=clock.now() + timedelta(seconds=age_s), max_age_s=60)

    assert raised.value.code == code
