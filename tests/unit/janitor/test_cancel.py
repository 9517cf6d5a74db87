"""Cancels by command."""

from common.bus.port import Done, Retry
from common.messages import CancelImage
from services.janitor.cancel import cancel
from tests.making import an_image
from tests.unit.janitor.support import cluster, inserted, published_events


async def test_a_cancel_waits_for_a_late_request_and_applies_once(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context)
        unrecorded = an_image(created_at=context.clock.now())

        def command(image_id):
            return CancelImage(id="1", source="shop", subject=image_id, time=context.clock.now())

        assert await cancel(command(image.id), context=context) == Done()
        assert await cancel(command(image.id), context=context) == Done()
        assert isinstance(await cancel(command(unrecorded.id), context=context), Retry)

        assert (await context.store.get(image.id)).status == "cancelled"
        assert await published_events(context) == [("image.cancelled", image.id)]
