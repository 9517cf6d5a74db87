"""The sweep counts both sides first: where too much is missing, nothing is removed and the report says why."""

import json
from datetime import UTC, datetime

import pytest

from common.bus.port import WorkQueue
from common.domain.images import Status
from common.messages import TickData
from services.cli.operator import tick_and_report
from services.janitor.sweep import sweep
from services.janitor.timers import JanitorTimer
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster, last_report

LATER_S = 10 * 365 * 86_400  # the files have the date of today, the clock is in 2025
DRY = TickData(dry_run=True)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.is_file())


async def records(context):
    return await context.store.count_history("local", set(Status))


async def swept(context):
    """The report of a dry run and that of a real one, which are equal but for that."""
    context.clock.advance(LATER_S)
    await sweep(DRY, context=context)
    dry = await last_report(context)
    await sweep(NOTHING, context=context)
    done = await last_report(context)
    assert dry == done.model_copy(update={"dry_run": True})
    return done


async def forget_records(context, made):
    for image in made:
        assert await context.store.remove(image)


async def lose_pictures(context, made):
    await context.media.remove([image.image_file for image in made])


@pytest.mark.long_unless("an empty store", "one image", "a foreign folder")
@pytest.mark.border(rule="C1")
@pytest.mark.parametrize(
    ("count", "forgotten"),
    [(60, 60), (15, 15), (1, 1), (60, 40), (300, 25)],
    ids=["an empty store", "a small one", "one image", "a foreign folder beside our own", "a restored older backup"],
)
async def test_files_are_kept_if_too_many_have_no_record(tmp_path, count, forgotten):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        made = [await a_completed_image(context) for _ in range(count)]
        await forget_records(context, made[:forgotten])
        before = files_below(tmp_path)

        report = await swept(context)

        assert "belong to no image of this store" in report.refused
        assert (report.files_without_record, report.records_without_file) == (2 * forgotten, 0)
        assert files_below(tmp_path) == before


@pytest.mark.long_unless("an empty folder", "one image", "half the files")
@pytest.mark.border(rule="C1")
@pytest.mark.parametrize(
    ("count", "lost"),
    [(15, 15), (1, 1), (60, 30), (500, 26)],
    ids=["an empty folder", "one image", "half the files", "6 %"],
)
async def test_records_are_kept_if_too_many_have_no_file(tmp_path, count, lost):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        made = [await a_completed_image(context, pinned=number == 0) for number in range(count)]
        await lose_pictures(context, made[:lost])

        report = await swept(context)

        assert f"{lost} of {count} pictures are missing" in report.refused
        assert await records(context) == count


@pytest.mark.long_unless("500-25-5", "30-30-100")
@pytest.mark.border(rule="C1")
@pytest.mark.parametrize(("count", "lost", "limit"), [(500, 20, "5"), (500, 25, "5"), (40, 20, "5"), (30, 30, "100")])
async def test_a_small_share_is_repaired(tmp_path, count, lost, limit):
    async with cluster(tmp_path, SWEEP_GRACE="60", SWEEP_LIMIT=limit) as context:
        made = [await a_completed_image(context) for _ in range(count)]
        await lose_pictures(context, made[:lost])
        thumbnails = {image.thumbnail for image in made[:lost]}

        report = await swept(context)

        assert report.refused is None
        assert await records(context) == count - lost
        assert not any(key in files_below(tmp_path / "media") for key in thumbnails)


@pytest.mark.border(rule="C1")
async def test_a_pinned_record_is_never_removed_by_a_sweep(tmp_path):
    async with cluster(tmp_path, SWEEP_GRACE="60", SWEEP_LIMIT="100") as context:
        pinned = [await a_completed_image(context, pinned=True) for _ in range(3)]
        loose = await a_completed_image(context)
        await lose_pictures(context, [*pinned, loose])

        report = await swept(context)

        assert report.records_without_file == 4
        assert [(await context.store.get(image.id)).deleted_at for image in pinned] == [None] * 3
        assert (await context.store.get(loose.id)).deleted_at is not None


@pytest.mark.border(rule="C1")
async def test_files_of_others_beside_ours_are_kept(tmp_path):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        image = await a_completed_image(context)
        month = (tmp_path / "media" / image.image_file).parent
        for path in (month / "holiday.png", month / "index.html", tmp_path / "media/generated_images/notes.txt"):
            path.write_bytes(b"mine")

        report = await swept(context)

        assert (report.refused, report.files_without_record) == (None, 0)
        assert len(files_below(tmp_path / "media")) == 5


@pytest.mark.border(rule="C1")
async def test_media_with_the_marker_of_another_store_are_not_swept(tmp_path):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        made = [await a_completed_image(context) for _ in range(50)]
        await forget_records(context, made[:2])
        await context.media.mark("ours")
        (tmp_path / "media/.darkroom-store").write_text("theirs\n")
        before = files_below(tmp_path / "media")

        report = await swept(context)

        assert "does not hold the marker of this store" in report.refused
        assert files_below(tmp_path / "media") == before


@pytest.mark.border(rule="C1")
async def test_the_files_of_a_record_that_cannot_be_read_are_kept(tmp_path, newer_version):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        made = [await a_completed_image(context) for _ in range(3)]
        newer_version(tmp_path / "darkroom.db", made[0].id)

        report = await swept(context)

        assert (report.refused, report.files_without_record) == (None, 0)
        assert made[0].image_file in files_below(tmp_path / "media")


@pytest.mark.border(rule="C1")
@pytest.mark.parametrize(("lost", "status"), [(0, 0), (1, 0), (30, 1)])
async def test_the_command_shows_the_reason_and_fails(tmp_path, capsys, lost, status):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        made = [await a_completed_image(context) for _ in range(30)]
        await lose_pictures(context, made[:lost])
        context.clock.advance(LATER_S)
        timer = JanitorTimer(WorkQueue.SWEEP, 60, sweep, context)

        async with context.bus.consume(WorkQueue.SWEEP, timer.handle, concurrency=1):
            assert await tick_and_report("timer.sweep", NOTHING)(context.bus) == status

        shown = json.loads(capsys.readouterr().out)
        assert (shown["recordsWithoutFile"], shown["refused"] is None) == (lost, status == 0)


@pytest.mark.border(rule="C1")
async def test_read_only_media_are_compared_and_not_swept(tmp_path):
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        made = [await a_completed_image(context) for _ in range(30)]
        await lose_pictures(context, made[:1])
        folder = tmp_path / "media/generated_images" / f"{context.clock.now():%Y/%m}"
        context.clock.advance(LATER_S)
        month = tmp_path / "media/generated_images" / f"{datetime.now(UTC):%Y/%m}"
        month.rmdir()
        month.write_bytes(b"")  # what new pictures need is a file; the old ones can be read

        report = await swept(context)

        assert folder.is_dir()
        assert report.refused.startswith("media is unavailable")
        assert report.records_without_file == 1
        assert await records(context) == 30
