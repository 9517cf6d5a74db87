"""Restored backups: a sweep removes nothing while store and media are not of the same time."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from common.application.deployment import KIND
from common.application.media_owner import claim_media
from common.application.operation.checkpoint import KEY, raise_checkpoint, read_checkpoints
from common.domain.errors import Unavailable
from common.domain.images import Status
from common.messages import TickData
from common.store.port import Entry
from services.janitor.checkpoint import keep_checkpoint
from services.janitor.sweep import sweep
from tests.media_folder import back_up, files_in, place_of, remove_file, write_file
from tests.media_folder import restore as put_back
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster, last_report

LATER_S = 10 * 365 * 86400  # the files have the date of today, the clock is in 2025


def files(tmp_path):
    return files_in(place_of(tmp_path / "media"))


async def ticks(context, count=3):
    for _ in range(count):
        await keep_checkpoint(context)


async def deployment_with_backup(tmp_path):
    """A deployment with 15 pictures, and in `backup` the state after the first twelve."""
    for count in (12, 3):
        async with cluster(tmp_path) as context:
            await claim_media(context.store, context.media)
            for _ in range(count):
                await a_completed_image(context)
            await ticks(context)
            if not (tmp_path / "backup").exists():  # as docs/operating.md says, while the store is open
                (tmp_path / "backup").mkdir()
                with (
                    closing(sqlite3.connect(tmp_path / "darkroom.db")) as store,
                    closing(sqlite3.connect(tmp_path / "backup/darkroom.db")) as backup,
                ):
                    store.backup(backup)
                back_up(place_of(tmp_path / "media"), tmp_path / "backup/media")


def restore(tmp_path, what):
    if what == "media":
        put_back(place_of(tmp_path / "media"), tmp_path / "backup/media")
        return
    for file in tmp_path.glob("darkroom.db*"):
        file.unlink()
    shutil.copy2(tmp_path / "backup/darkroom.db", tmp_path)


@pytest.mark.border(rule="C1")
@pytest.mark.parametrize(
    ("restored", "reported"),
    [("store", {"files_without_record": 6}), ("media", {"records_without_file": 3})],
)
async def test_a_restore_of_one_side_removes_nothing(tmp_path, restored, reported):
    """With real SQLite files and folders. So few would be removed without the checkpoint: SWEEP_LIMIT allows 20.

    After `darkroom media --adopt`, the sweep repairs what it reported before.
    """
    await deployment_with_backup(tmp_path)
    restore(tmp_path, restored)
    before = files(tmp_path)
    async with cluster(tmp_path, SWEEP_GRACE="60") as context:
        await claim_media(context.store, context.media)
        records = await context.store.count_history("local", {Status.COMPLETED})
        context.clock.advance(LATER_S)
        await ticks(context)
        for _ in range(2):
            await sweep(NOTHING, context=context)
            report = await last_report(context)
            assert {name: getattr(report, name) for name in reported} == reported
            assert "restored from a backup" in report.refused
            assert files(tmp_path) == before
            assert await context.store.count_history("local", {Status.COMPLETED}) == records

        await claim_media(context.store, context.media, adopt=True)
        await sweep(NOTHING, context=context)
        assert (await last_report(context)).refused is None
        assert len(files(tmp_path)) == 24
        assert await context.store.count_history("local", {Status.COMPLETED}) == 12


async def test_a_restore_of_both_sides_is_swept_as_usual(tmp_path):
    await deployment_with_backup(tmp_path)
    restore(tmp_path, "store")
    restore(tmp_path, "media")
    async with cluster(tmp_path) as context:
        await claim_media(context.store, context.media)
        await ticks(context)
        await sweep(NOTHING, context=context)
        report = await last_report(context)

    assert (report.refused, report.files_without_record, report.records_without_file) == (None, 0, 0)


@pytest.mark.parametrize("lost", ["store", "media"])
async def test_a_backup_from_before_the_first_checkpoint_counts(tmp_path, lost):
    async with cluster(tmp_path) as context:
        await claim_media(context.store, context.media)
        await ticks(context)
        if lost == "store":
            await context.store.remove_entry(KIND, KEY)
        else:
            remove_file(place_of(tmp_path / "media"), ".darkroom-checkpoint")
        await ticks(context)
        await sweep(TickData(dry_run=True), context=context)

        assert "restored from a backup" in (await last_report(context)).refused


async def test_a_crash_between_both_sides_is_no_restore(tmp_path):
    async with cluster(tmp_path) as context:
        await ticks(context)
        found = await read_checkpoints(context.store, context.media)
        assert found.store == found.media == 3
        await context.media.set_checkpoint(4)

        assert await raise_checkpoint(context.store, context.media) is None
        after = await read_checkpoints(context.store, context.media)
        assert (after.store, after.media) == (4, 4)


@pytest.mark.parametrize("raised", [0, 3])
async def test_failed_writes_of_the_store_are_no_restore(tmp_path, raised):
    """However many fail after the media were written, also the first ones of a deployment."""

    class FailingStore:
        def __init__(self, store):
            self.get_entry = store.get_entry

        async def put_entry(self, _entry):
            raise Unavailable("store", "locked")

    async with cluster(tmp_path) as context:
        for _ in range(raised):
            await raise_checkpoint(context.store, context.media)
        failing: Any = FailingStore(context.store)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await raise_checkpoint(failing, context.media)

        assert await raise_checkpoint(context.store, context.media) is None
        after = await read_checkpoints(context.store, context.media)
        assert (after.store, after.media) == (raised + 1, raised + 1)


async def test_a_janitor_that_was_stopped_long_repairs_its_number(tmp_path):
    """It read the numbers before it was stopped, and goes on when others have raised them ten times."""

    class StoppedMedia:
        def __init__(self, media, context):
            self.media, self.context, self.was_stopped = media, context, False

        async def checkpoint(self):
            return await self.media.checkpoint()

        async def set_checkpoint(self, number):
            if not self.was_stopped:
                self.was_stopped = True
                await ticks(self.context, 10)
            await self.media.set_checkpoint(number)

    async with cluster(tmp_path) as context:
        await ticks(context)
        await keep_checkpoint(replace(context, media=StoppedMedia(context.media, context)))

        found = await read_checkpoints(context.store, context.media)
        assert (found.store, found.media, found.difference) == (13, 13, None)


@pytest.mark.parametrize("data", [{}, {"number": "7"}, {"number": None}])
async def test_a_damaged_checkpoint_counts_as_missing(tmp_path, data):
    async with cluster(tmp_path) as context:
        await context.media.set_checkpoint(3)
        write_file(place_of(tmp_path / "media"), ".darkroom-checkpoint", b"\xff\x00")
        await context.store.put_entry(Entry(KIND, KEY, 1, data))

        found = await read_checkpoints(context.store, context.media)
        assert (found.store, found.media, found.difference) == (None, None, None)
        assert await raise_checkpoint(context.store, context.media) is None
