"""Dead letters fail their images."""

import pytest

from common.bus.port import DeadLetter, Done, Reject, Retry, WorkQueue
from common.domain.images import Failure, Status
from common.messages import GenerateImage
from services.janitor.dead_letters import fail_dead_letter
from tests.contract.bus.support import has_dead_letters, until
from tests.making import an_image
from tests.unit.janitor.support import cluster, inserted, published_events, running


async def test_a_dead_letter_fails_its_image_without_a_live_lease(tmp_path):
    async with cluster(tmp_path) as context:
        waiting = await inserted(context)
        held = await inserted(context, **running(context, 30))

        def letter(body):
            return DeadLetter(id="1", body=body, reason="delivery_limit", queue="image.generate", died_at=None)

        for image, outcome in ((waiting, Done), (held, Retry)):
            body = f'{{"type": "image.generate", "id": "{image.id}"}}'.encode()
            assert isinstance(await fail_dead_letter(letter(body), context=context), outcome)
        assert await fail_dead_letter(letter(b"\xff not json"), context=context) == Done()

        failed = await context.store.get(waiting.id)
        assert (failed.status, failed.error.code) == ("failed", "delivery_limit")
        assert (await context.store.get(held.id)).status == "running"


@pytest.mark.border("A9")
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
        command = GenerateImage(id=image.id, source="api", subject=image.id, time=now)

        async def reject(_message):
            return Reject("delivery_limit")

        async with context.bus.consume(WorkQueue.GENERATE, reject, concurrency=1):
            await context.bus.send(command)
            await until(lambda: has_dead_letters(context.bus))
        (letter,) = await context.bus.dead_letters(10)
        await fail_dead_letter(letter, context=context)

        assert bool(await context.bus.dead_letters(10)) is is_kept


async def test_the_owner_of_an_unrecorded_request_gets_an_event(tmp_path):
    async with cluster(tmp_path) as context:
        order = an_image()
        body = f'{{"type": "image.generate", "id": "{order.id}", "owner": "ada", "data": {{"width": "wide"}}}}'
        letter = DeadLetter(
            id="1", body=body.encode(), reason="invalid_request: width", queue="image.generate", died_at=None
        )

        await fail_dead_letter(letter, context=context)

        assert await published_events(context) == [("image.failed", order.id)]
