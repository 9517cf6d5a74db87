"""What is older than the retention is cleared away, in batches, and nothing else."""

import asyncio

from common.bus.port import Done, WorkQueue
from common.domain.images import Status
from common.messages import TickData
from services.janitor.purge import purge
from tests.unit.janitor.support import NOTHING, a_completed_image, house, told


async def test_purge_clears_the_old_and_nothing_else(tmp_path):
    async with house(tmp_path) as tools:
        old = [await a_completed_image(tools) for _ in range(25)]
        pinned = await a_completed_image(tools, pinned=True)
        tools.clock.advance(31 * 86400)
        young = await a_completed_image(tools)

        await purge(NOTHING, tools=tools)

        kept = [pinned, young]
        assert await tools.media.exists([image.image_file for image in [*old, *kept]]) == {
            image.image_file for image in kept
        }
        assert await tools.store.total("local", set(Status)) == 2
        events = await told(tools)
        assert sorted(events[:-1]) == sorted(("image.deleted", image.id) for image in old)
        assert events[-1] == ("janitor.purged", "")
        records = await tools.store.several([image.id for image in old])
        assert all(record.tombstoned_at for record in records.values())


async def test_a_dry_purge_says_how_many_and_touches_nothing(tmp_path):
    async with house(tmp_path) as tools:
        image = await a_completed_image(tools)
        tools.clock.advance(3600)

        await purge(TickData(older_than=60, dry_run=True), tools=tools)

        assert await tools.media.exists([image.image_file]) == {image.image_file}
        assert await told(tools) == [("janitor.purged", "")]


async def test_a_purge_longer_than_a_slice_sends_itself_on(tmp_path):
    async with house(tmp_path, PURGE_BATCH="1") as tools:
        for _ in range(25):
            await a_completed_image(tools)
        tools.clock.advance(31 * 86400)
        purged = asyncio.Event()

        async def go_on(tick):
            await purge(tick.data, tools=tools)
            purged.set()
            return Done()

        async with tools.bus.work(WorkQueue.PURGE, go_on, concurrency=1):
            await purge(NOTHING, tools=tools)
            await asyncio.wait_for(purged.wait(), 5)

        assert await tools.store.total("local", set(Status)) == 0
