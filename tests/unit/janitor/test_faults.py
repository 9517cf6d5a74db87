"""The janitor while others change the same images."""

import asyncio
from collections import Counter
from functools import partial

import pytest

from common.domain import images, transitions
from common.domain.errors import InvalidTransition, NotFound
from common.messages import TickData
from common.store.port import change
from services.janitor.purge import purge
from tests.unit.janitor.support import a_completed_image, cluster, published_events

NOTHING = TickData()


@pytest.mark.fault(row=55)
async def test_purge_and_user_delete_the_same_images_once(tmp_path):
    async with cluster(tmp_path) as context:
        old = [await a_completed_image(context) for _ in range(40)]
        context.clock.advance(31 * 86400)

        async def deleted_by_its_owner(image):
            """As the api does it; a 404 if the purge was first."""
            try:
                deleted = await change(context.store, image.id, partial(transitions.delete, now=context.clock.now()))
            except (NotFound, InvalidTransition):
                return
            await context.outbox.try_publish_pending(deleted)
            await context.media.remove(images.media_keys(deleted))
            await change(context.store, image.id, partial(transitions.tombstone, now=context.clock.now()))

        await asyncio.gather(
            purge(NOTHING, context=context),
            *(deleted_by_its_owner(image) for image in old[::2]),
            purge(NOTHING, context=context),
        )

        records = await context.store.get_several([image.id for image in old])
        assert all(record.tombstoned_at and record.pending_event is None for record in records.values())
        assert await context.media.exists([image.image_file for image in old]) == set()
        events = Counter(await published_events(context))
        assert {subject for kind, subject in events if kind == "image.deleted"} == {image.id for image in old}
