"""Dead letters fail their images."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from common.bus.port import DeadLetter, Done, Reject, Retry, WorkQueue
from common.domain.images import Failure, Status
from common.messages import GenerateImage, encode
from services.janitor.dead_letters import fail_dead_letter
from tests.contract.bus.support import has_dead_letters, until
from tests.making import an_image
from tests.unit.janitor.support import cluster, inserted, published_events, running


def letter(body, reason="delivery_limit", died_at=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DeadLetter(id="1", body=body, reason=reason, queue="image.generate", died_at=died_at)


def sent_for(image, **fields):
    """The command of this image as the outbox sends it, with some fields changed."""
    command = GenerateImage(id=image.id, source=image.source, owner=image.owner, subject=image.id)
    return json.loads(encode(command)) | fields


async def test_a_dead_letter_fails_its_image_without_a_live_lease(tmp_path):
    async with cluster(tmp_path) as context:
        waiting = await inserted(context)
        held = await inserted(context, **running(context, 30))

        for image, outcome in ((waiting, Done), (held, Retry)):
            assert isinstance(await fail_dead_letter(letter(sent_for(image)), context=context), outcome)
        assert await fail_dead_letter(letter(b"\xff not json"), context=context) == Done()

        failed = await context.store.get(waiting.id)
        assert (failed.status, failed.error.code) == ("failed", "delivery_limit")
        assert (await context.store.get(held.id)).status == "running"


@pytest.mark.border(rule="A9")
@pytest.mark.parametrize(
    ("fields", "is_kept"),
    [
        ({"status": Status.COMPLETED, "attempts": 1}, False),
        ({"status": Status.CANCELLED}, False),
        ({"status": Status.COMPLETED, "attempts": 1, "deleted_at": "now"}, False),
        ({"status": Status.FAILED, "error": Failure(code="worker_lost", detail="six")}, True),
        ({}, True),
    ],
)
async def test_a_dead_letter_is_dropped_if_its_image_ended_well(tmp_path, fields, is_kept):
    """A link that is cut at every acknowledgement makes a dead letter of a command whose image is completed."""
    async with cluster(tmp_path) as context:
        now = context.clock.now()
        image = await inserted(context, **{name: now if value == "now" else value for name, value in fields.items()})
        command = GenerateImage(id=image.id, source=image.source, owner=image.owner, subject=image.id, time=now)

        async def reject(_message):
            return Reject("delivery_limit")

        async with context.bus.consume(WorkQueue.GENERATE, reject, concurrency=1):
            await context.bus.send(command)
            await until(lambda: has_dead_letters(context.bus))
        (found,) = await context.bus.dead_letters(10)
        await fail_dead_letter(found, context=context)

        assert bool(await context.bus.dead_letters(10)) is is_kept


async def test_the_owner_of_an_unrecorded_request_gets_an_event(tmp_path):
    async with cluster(tmp_path) as context:
        order = an_image()
        body = {"type": "image.generate", "id": order.id.upper(), "owner": "ada", "data": {"width": "wide"}}

        await fail_dead_letter(letter(body, "invalid_request: width"), context=context)

        assert await published_events(context) == [("image.failed", order.id)]


@pytest.mark.border(rule="A6")
@pytest.mark.parametrize(
    "fields",
    [
        {"data": {"prompt": "a", "width": "wide"}},
        {"data": {"prompt": "a"}, "time": "yesterday"},
        {"specversion": "0.3"},
        {"source": "newsletter"},
        {"source": None},
        {"source": ["shop"]},
        {"owner": "bob"},
        {"owner": None},
        {"owner": {"name": "ada"}},
        {"id": "no id", "subject": "the id"},
        {"type": "image.cancel"},
    ],
    ids=repr,
)
async def test_a_dead_letter_changes_only_an_image_of_its_sender(tmp_path, fields):
    """Of a malformed request no record was made, so also one that names owner and source changes none."""
    async with cluster(tmp_path) as context:
        image = await inserted(context, source="shop", owner="ada")
        body = sent_for(image, **fields)
        if "subject" in fields:
            body["subject"] = image.id

        assert await fail_dead_letter(letter(body, "invalid_request: made up"), context=context) == Done()

        assert await context.store.get(image.id) == image
        assert await published_events(context) == []


@pytest.mark.border(rule="B5")
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("hourly_limit: three", "hourly_limit"),
        ("Привет: x", "undeliverable"),
        ("x" * 10_000, "undeliverable"),
        ("half of a pair: \ud800", "undeliverable"),
        ("line\r\nend \x1b[2J", "undeliverable"),
    ],
)
async def test_the_reason_of_a_dead_letter_is_cleaned(tmp_path, reason, code):
    async with cluster(tmp_path) as context:
        image = await inserted(context)

        await fail_dead_letter(letter(sent_for(image), reason), context=context)

        error = (await context.store.get(image.id)).error
        assert error.code == code
        assert 0 < len(error.detail) <= 500
        assert error.detail.isprintable()


@pytest.mark.border(rule="A5")
@pytest.mark.parametrize(
    "died_at",
    [datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), datetime(2025, 1, 1)],  # noqa: DTZ001
    ids=["1970", "9999", "no zone"],
)
async def test_an_event_of_a_dead_letter_has_a_time_that_can_be_true(tmp_path, died_at):
    async with cluster(tmp_path) as context:
        image = await inserted(context)

        await fail_dead_letter(letter(sent_for(image), died_at=died_at), context=context)

        assert abs((await context.store.get(image.id)).finished_at - context.clock.now()) < timedelta(minutes=1)


async def test_a_body_of_megabytes_is_not_parsed(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context)

        await fail_dead_letter(letter(sent_for(image, padding="x" * 100_000)), context=context)

        assert await context.store.get(image.id) == image
