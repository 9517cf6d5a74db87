"""Drift between files and records is reported and repaired."""

import pytest

from common.domain import images
from common.domain.images import Format, Status
from common.messages import TickData
from services.janitor.sweep import sweep
from tests.making import an_image
from tests.media_folder import files_in, place_of
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster, last_report, published_events


async def test_sweep_removes_old_files_without_a_record(tmp_path):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        image = await a_completed_image(context)
        stray = an_image(attempts=1)
        late = image.model_copy(update={"attempts": 2})
        for key in (images.image_key(stray, Format.PNG), images.thumbnail_key(late, Format.JPEG)):
            await context.media.put(key, b"stray")
        files = place_of(tmp_path / "media")

        await sweep(NOTHING, context=context)
        assert len(files_in(files)) == 4
        context.clock.advance(10 * 365 * 86400)  # the files have the date of today, the clock is in 2025
        await sweep(TickData(dry_run=True), context=context)
        assert len(files_in(files)) == 4
        await sweep(NOTHING, context=context)

        assert files_in(files) == {image.image_file, image.thumbnail}


@pytest.mark.fault(row=47)
async def test_sweep_repairs_records_with_missing_files(tmp_path):
    async with cluster(tmp_path) as context:
        whole = await a_completed_image(context)
        lost = await a_completed_image(context)
        bare = await a_completed_image(context)
        await context.media.remove([lost.image_file, bare.thumbnail])

        await sweep(NOTHING, context=context)

        assert (await context.store.get(lost.id)).deleted_at is not None
        assert (await context.store.get(bare.id)).thumbnail is None
        assert await context.store.get(whole.id) == whole
        assert ("image.deleted", lost.id) in await published_events(context)


async def test_sweep_repairs_nothing_if_all_media_are_missing(tmp_path):
    async with cluster(tmp_path) as context:
        kept = [await a_completed_image(context) for _ in range(30)]
        await context.media.remove([image.image_file for image in kept])

        await sweep(NOTHING, context=context)

        assert await context.store.count_history("local", {Status.COMPLETED}) == 30
        assert "30 of 30 pictures are missing" in (await last_report(context)).refused
