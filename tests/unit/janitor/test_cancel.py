"""Cancels by command."""

from common.bus.port import Done, Retry
from common.messages import CancelImage
from services.janitor.cancel import cancel
from tests.making import an_image
from tests.unit.janitor.support import cluster, inserted, told


async def test_a_cancel_by_command_is_one_move_and_waits_for_an_order_that_is_late(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context)
        unheard = an_image(created_at=context.clock.now())

        def command(image_id):
            return CancelImage(id="1", source="shop", subject=image_id, time=context.clock.now())

        assert await cancel(command(image.id), context=context) == Done()
        assert await cancel(command(image.id), context=context) == Done()
        assert isinstance(await cancel(command(unheard.id), context=context), Retry)

        assert (await context.store.get(image.id)).status == "cancelled"
        assert await told(context) == [("image.cancelled", image.id)]
