"""Purge of images older than the retention, in batches."""

import asyncio

import pytest

from common.bus.port import Done, WorkQueue
from common.domain.errors import Unavailable
from common.domain.images import Status
from common.messages import TickData
from services.janitor.purge import purge
from tests.making import a_batch
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster, published_events


async def test_purge_removes_old_images_and_nothing_else(tmp_path):
    async with cluster(tmp_path) as context:
        old = [await a_completed_image(context) for _ in range(25)]
        pinned = await a_completed_image(context, pinned=True)
        context.clock.advance(31 * 86400)
        young = await a_completed_image(context)

        await purge(NOTHING, context=context)

        kept = [pinned, young]
        assert await context.media.exists([image.image_file for image in [*old, *kept]]) == {
            image.image_file for image in kept
        }
        assert await context.store.count_history("local", set(Status)) == 2
        events = await published_events(context)
        assert sorted(events[:-1]) == sorted(("image.deleted", image.id) for image in old)
        assert events[-1] == ("janitor.purged", "")
        records = await context.store.get_several([image.id for image in old])
        assert all(record.tombstoned_at for record in records.values())


async def test_a_dry_purge_reports_and_changes_nothing(tmp_path):
    async with cluster(tmp_path) as context:
        image = await a_completed_image(context)
        context.clock.advance(3600)

        await purge(TickData(older_than=60, dry_run=True), context=context)

        assert await context.media.exists([image.image_file]) == {image.image_file}
        assert await published_events(context) == [("janitor.purged", "")]


async def test_a_long_purge_continues_with_another_tick(tmp_path):
    async with cluster(tmp_path, PURGE_BATCH="1") as context:
        for _ in range(25):
            await a_completed_image(context)
        context.clock.advance(31 * 86400)
        purged = asyncio.Event()

        async def go_on(tick):
            await purge(tick.data, context=context)
            purged.set()
            return Done()

        async with context.bus.consume(WorkQueue.PURGE, go_on, concurrency=1):
            await purge(NOTHING, context=context)
            await asyncio.wait_for(purged.wait(), 30)

        assert await context.store.count_history("local", set(Status)) == 0


async def test_purge_completes_a_batch_before_its_first(tmp_path):
    """The first is old and completed, and nobody has inserted the others."""
    async with cluster(tmp_path) as context:
        first = a_batch(created_at=context.clock.now(), status=Status.COMPLETED)
        await context.store.insert(first)
        context.clock.advance(31 * 86400)

        await purge(NOTHING, context=context)

        members = await context.store.batch_members(first.id)
        assert [image.tombstoned_at is not None for image in members] == [True, False, False, False]
        assert {image.prompt for image in members[1:]} == {"a lighthouse"}


@pytest.mark.parametrize(
    ("part", "several", "one"),
    [("store", "replace_several", "replace"), ("outbox", "publish_deleted_several", "publish_deleted")],
)
async def test_one_odd_image_does_not_keep_a_batch(tmp_path, monkeypatch, part, several, one):
    """One whose record cannot be written, or of which no event can be made: the rest of its batch is purged."""
    async with cluster(tmp_path) as context:
        old = [await a_completed_image(context) for _ in range(8)]
        odd = old[3]
        _refuse(monkeypatch, getattr(context, part), several, lambda images: any(each.id == odd.id for each in images))
        _refuse(monkeypatch, getattr(context, part), one, lambda image: image.id == odd.id)
        context.clock.advance(31 * 86400)

        await purge(NOTHING, context=context)

        announced = [subject for kind, subject in await published_events(context) if kind == "image.deleted"]
        assert sorted(announced) == sorted(image.id for image in old if image is not odd)
        assert await context.media.exists([image.image_file for image in old]) == (
            {odd.image_file} if part == "store" else set()
        )


async def test_a_purge_ends_with_the_error_of_a_store_that_is_away(tmp_path, monkeypatch):
    """What it has marked by then is finished by the next run."""
    async with cluster(tmp_path, PURGE_BATCH="2") as context:
        old = [await a_completed_image(context) for _ in range(6)]
        context.clock.advance(31 * 86400)
        writes = iter([False, True])  # the first marks a batch
        with monkeypatch.context() as patched:
            _refuse(patched, context.store, "replace_several", lambda _: next(writes, True), Unavailable("store"))
            with pytest.raises(Unavailable):
                await purge(NOTHING, context=context)

        await purge(NOTHING, context=context)

        assert await context.media.exists([image.image_file for image in old]) == set()


def _refuse(monkeypatch, owner, name, is_refused, error=None):
    """Let a method raise for some of what it is given."""
    method = getattr(type(owner), name)

    async def refusing(self, given, *args, **kwargs):
        if is_refused(given):
            raise error or ValueError("odd")
        return await method(self, given, *args, **kwargs)

    monkeypatch.setattr(type(owner), name, refusing)
