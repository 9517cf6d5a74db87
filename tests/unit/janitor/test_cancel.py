"""Cancels by command."""

from datetime import timedelta

import pytest

from common.application.early_cancels import EarlyCancel, find_early_cancel
from common.bus.port import Done, Reject
from common.messages import CancelImage, decode, encode
from services.janitor.cancel import cancel
from tests.making import an_image
from tests.unit.janitor.support import cluster, inserted, published_events


def cancel_command(context, image_id, *, source="shop", owner=None, time=None):
    return CancelImage(id="1", source=source, subject=image_id, owner=owner, time=time or context.clock.now())


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
