"""Cancels by command."""

from datetime import timedelta

import pytest

from common.application.early_cancels import EarlyCancel, find_early_cancel
from common.bus.port import Done, Reject
from common.domain import transitions
from common.domain.batches import batch_ids
from common.messages import CancelData, CancelImage, decode, encode
from common.store.port import change
from services.janitor.cancel import cancel
from tests.making import a_batch, an_image
from tests.unit.janitor.support import cluster, inserted, published_events


def cancel_command(context, image_id, *, source="shop", owner=None, time=None, batch=False):
    data = CancelData(batch=batch)
    time = time or context.clock.now()
    return CancelImage(id="1", source=source, subject=image_id, owner=owner, time=time, data=data)


async def test_a_cancel_applies_once(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context, source="shop")

        for _ in range(2):
            assert await cancel(cancel_command(context, image.id), context=context) == Done()

        assert (await context.store.get(image.id)).status == "cancelled"
        assert await published_events(context) == [("image.cancelled", image.id)]


@pytest.mark.border(rule="A1")
async def test_a_subject_in_capitals_names_the_same_image(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context, source="shop")
        sent = encode(cancel_command(context, "x")).replace(b'"x"', f'"{image.id.upper()}"'.encode())

        command = decode(sent)
        assert isinstance(command, CancelImage)
        assert await cancel(command, context=context) == Done()

        assert (await context.store.get(image.id)).status == "cancelled"


@pytest.mark.border(rule="A6")
@pytest.mark.parametrize(
    ("source", "owner", "is_cancelled"),
    [
        ("shop", "ada", True),
        ("shop", None, True),
        ("shop", "bob", False),
        ("shop", "ADA", False),
        ("newsletter", "ada", False),
        ("newsletter", None, False),
        ("api", "ada", False),
        ("", None, False),
    ],
)
async def test_a_cancel_counts_only_for_an_image_of_its_sender(tmp_path, source, owner, is_cancelled):
    async with cluster(tmp_path) as context:
        image = await inserted(context, source="shop", owner="ada")

        outcome = await cancel(cancel_command(context, image.id, source=source, owner=owner), context=context)

        status = (await context.store.get(image.id)).status
        assert (outcome == Done(), status) == (is_cancelled, "cancelled" if is_cancelled else "queued")
        if not is_cancelled:
            assert isinstance(outcome, Reject)
            assert outcome.reason.startswith("forbidden: ")


@pytest.mark.border(rule="A6")
@pytest.mark.parametrize(("owner", "status"), [(None, "queued"), ("bob", "queued"), ("ada", "cancelled")])
async def test_a_cancel_of_an_http_request_must_name_its_owner(tmp_path, owner, status):
    async with cluster(tmp_path) as context:
        image = await inserted(context, source="api", owner="ada")

        await cancel(cancel_command(context, image.id, source="api", owner=owner), context=context)

        assert (await context.store.get(image.id)).status == status


@pytest.mark.border(rule="A6")
@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=400), -timedelta(days=400), -timedelta(days=400_000)])
async def test_a_cancel_of_an_unknown_id_ends_at_once(tmp_path, age):
    async with cluster(tmp_path) as context:
        unknown = an_image(source="shop", created_at=context.clock.now())

        for _ in range(3):
            outcome = await cancel(cancel_command(context, unknown.id, time=context.clock.now() - age), context=context)
            assert outcome == Done()

        assert await find_early_cancel(context.store, unknown) is EarlyCancel.IMAGE
        assert await context.store.remove_expired_entries(context.clock.now() + timedelta(hours=1)) == 1
        assert await find_early_cancel(context.store, unknown) is EarlyCancel.NOTHING


@pytest.mark.border(rule="A10")
async def test_a_remembered_cancel_counts_only_for_its_sender(tmp_path):
    async with cluster(tmp_path) as context:
        image = an_image(source="shop", owner="ada")
        for source, owner in [("newsletter", "ada"), ("shop", "bob"), *(("shop", f"owner-{n}") for n in range(20))]:
            await cancel(cancel_command(context, image.id, source=source, owner=owner), context=context)

        assert await find_early_cancel(context.store, image) is EarlyCancel.NOTHING
        assert await find_early_cancel(context.store, image.model_copy(update={"owner": "bob"})) is EarlyCancel.IMAGE
        assert len((await context.store.get_entry("cancelled", f"{image.id}:shop")).data["owners"]) < 10


async def test_a_cancel_of_a_batch_cancels_what_is_open(tmp_path):
    """Its sender names the third of four; one has ended before. Another sender's cancel changes nothing."""
    async with cluster(tmp_path) as context:
        first = a_batch(source="shop", owner="ada", created_at=context.clock.now())
        await context.store.insert(first)
        await context.batches.begin(first)
        ids = batch_ids(first)
        await change(context.store, ids[1], lambda image: transitions.cancel(image, now=context.clock.now()))
        foreign = cancel_command(context, ids[2], source="newsletter", owner="ada", batch=True)
        command = cancel_command(context, ids[2], owner="ada", batch=True)

        refused = await cancel(foreign, context=context)
        before = [image.status for image in await context.store.batch_members(first.id)]
        outcome = await cancel(command, context=context)

        after = [image.status for image in await context.store.batch_members(first.id)]
        assert isinstance(refused, Reject)
        assert (before, after) == (["queued", "cancelled", "queued", "queued"], ["cancelled"] * 4)
        assert outcome == Done()
        cancelled = [image_id for event, image_id in await published_events(context) if event == "image.cancelled"]
        assert sorted(cancelled) == sorted(ids[index] for index in (0, 2, 3))


async def test_a_cancel_of_a_batch_is_remembered_as_such(tmp_path):
    async with cluster(tmp_path) as context:
        first = a_batch(source="shop", owner="ada")

        await cancel(cancel_command(context, first.id, owner="ada"), context=context)
        of_one = await find_early_cancel(context.store, first)
        for _ in range(2):
            await cancel(cancel_command(context, first.id, owner="ada", batch=True), context=context)

        assert of_one is EarlyCancel.IMAGE
        assert await find_early_cancel(context.store, first) is EarlyCancel.BATCH
        assert await find_early_cancel(context.store, first.model_copy(update={"owner": "bob"})) is EarlyCancel.NOTHING
