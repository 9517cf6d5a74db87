"""Records that an older release made of orders with an id in capitals."""

from datetime import timedelta

import pytest

from common.domain import images
from common.domain.images import Format, Status
from common.messages import TickData
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from tests.making import an_image
from tests.unit.janitor.support import a_completed_image, cluster, inserted

pytestmark = pytest.mark.border(rule="A1")


def capital_id() -> str:
    return an_image().id.upper()


async def test_a_record_with_an_id_in_capitals_ends_and_is_purged(tmp_path):
    async with cluster(tmp_path) as context:
        waiting = await inserted(context, id=capital_id())
        others = [await inserted(context) for _ in range(2)]
        completed = await a_completed_image(context, id=capital_id())
        context.clock.advance(3600)

        await reconcile(TickData(), context=context)
        ended = [await context.store.get(image.id) for image in (waiting, *others)]
        await purge(TickData(older_than=0), context=context)

        assert [image.error.code for image in ended] == ["deadline"] * 3
        for image in (waiting, *others, completed):
            assert (await context.store.get(image.id)).tombstoned_at is not None
        assert not await context.media.exists([completed.image_file, completed.thumbnail])


def test_the_media_keys_of_an_id_in_capitals_are_keys():
    image = an_image(id=capital_id(), attempts=2, status=Status.RUNNING)

    assert all(key == key.lower() for key in [*images.media_keys(image), *images.attempt_keys(image)])
    assert image.id.lower() in images.image_key(image, Format.PNG)


async def test_a_record_with_an_id_in_capitals_is_in_the_history(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context, id=capital_id(), created_at=context.clock.now() - timedelta(days=1))

        assert await context.store.history("local", list(Status), limit=10) == [image]
