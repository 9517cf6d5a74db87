"""Dead letters fail their images."""

from common.bus.port import DeadLetter, Done
from services.janitor.dead_letters import fail_dead_letter
from tests.making import an_image
from tests.unit.janitor.support import cluster, inserted, published_events, running


async def test_a_dead_letter_fails_its_image_without_a_live_lease(tmp_path):
    async with cluster(tmp_path) as context:
        waiting = await inserted(context)
        held = await inserted(context, **running(context, 30))

        def letter(body):
            return DeadLetter(id="1", body=body, reason="delivery_limit", queue="image.generate", died_at=None)

        for image in (waiting, held):
            body = f'{{"type": "image.generate", "id": "{image.id}"}}'.encode()
            assert await fail_dead_letter(letter(body), context=context) == Done()
        assert await fail_dead_letter(letter(b"\xff not json"), context=context) == Done()

        failed = await context.store.get(waiting.id)
        assert (failed.status, failed.error.code) == ("failed", "delivery_limit")
        assert (await context.store.get(held.id)).status == "running"


async def test_the_owner_of_an_unrecorded_request_gets_an_event(tmp_path):
    async with cluster(tmp_path) as context:
        order = an_image()
        body = f'{{"type": "image.generate", "id": "{order.id}", "owner": "ada", "data": {{"width": "wide"}}}}'
        letter = DeadLetter(
            id="1", body=body.encode(), reason="invalid_request: width", queue="image.generate", died_at=None
        )

        await fail_dead_letter(letter, context=context)

        assert await published_events(context) == [("image.failed", order.id)]
