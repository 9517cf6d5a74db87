"""One record that cannot be repaired never holds up the janitor: it is skipped with one warning that names it."""

import asyncio
from datetime import timedelta

import pytest

from common.bus.port import Done, WorkQueue
from common.domain.errors import Unavailable
from common.domain.images import PendingEvent, Status
from common.messages import Tick
from common.store.port import Entry
from services.janitor import reconcile as reconcile_module
from services.janitor.context import MAX_FAILURES_IN_A_ROW
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from services.janitor.sweep import sweep
from services.janitor.timers import JanitorTimer
from tests.making import an_image
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster, inserted

LONG = "x" * 100_000  # too long for a message


def pending(context):
    return PendingEvent(type="image.failed", revision=1, since=context.clock.now())


async def an_unpublishable_record(context):
    """Too long for an event."""
    return await inserted(context, status=Status.FAILED, pending_event=pending(context), prompt=LONG)


async def an_unremovable_record(context):
    """The folder of its files is a link."""
    image = an_image(created_at=context.clock.now() - timedelta(days=400), status=Status.FAILED, attempts=1)
    image = image.model_copy(update={"deleted_at": context.clock.now()})
    await context.store.insert(image)
    folder = context.media._root / "generated_images" / f"{image.created_at:%Y/%m}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.is_symlink():
        folder.symlink_to("/")
    return image


async def an_overdue_record_too_long(context):
    return await inserted(context, prompt=LONG, sent_at=context.clock.now())


BAD = [an_unpublishable_record, an_unremovable_record, an_overdue_record_too_long]


@pytest.mark.border(rule="B4")
@pytest.mark.parametrize("make_bad", BAD)
@pytest.mark.parametrize("many", [False, True])
async def test_a_tick_repairs_the_rest_and_names_the_record_once(tmp_path, make_bad, many, caplog, monkeypatch):
    """The bad records are the oldest, and with `many` there are more of them than a page of the janitor has."""
    monkeypatch.setattr(reconcile_module, "PAGE", 2)
    async with cluster(tmp_path, GENERATION_DEADLINE="1h") as context:
        bad = [await make_bad(context) for _ in range(3 if many else 1)]
        context.clock.advance(1)
        due = await inserted(context, status=Status.FAILED, pending_event=pending(context))
        buried = await inserted(context, status=Status.FAILED, deleted_at=context.clock.now())
        overdue = await inserted(context)
        context.clock.advance(3700)
        unsent = await inserted(context)
        context.clock.advance(60)

        for _ in range(2):
            await reconcile(NOTHING, context=context)

        assert (await context.store.get(due.id)).pending_event is None
        assert (await context.store.get(buried.id)).tombstoned_at is not None
        assert (await context.store.get(overdue.id)).status is Status.FAILED
        assert (await context.store.get(unsent.id)).sent_at is not None
        for image in bad:
            warnings = [record for record in caplog.records if f"image {image.id} is skipped" in record.getMessage()]
            assert len(warnings) == 1


@pytest.mark.border(rule="B4")
async def test_a_purge_clears_the_rest(tmp_path, caplog):
    """An id that is no key of the media, and a folder that is a link."""
    async with cluster(tmp_path) as context:
        strange = an_image(id="NOT-A-KEY", created_at=context.clock.now(), status=Status.FAILED, attempts=1)
        await context.store.insert(strange)
        good = [await a_completed_image(context) for _ in range(3)]
        linked = an_image(created_at=context.clock.now() - timedelta(days=400), status=Status.FAILED, attempts=1)
        await context.store.insert(linked)
        folder = tmp_path / "media/generated_images" / f"{linked.created_at:%Y/%m}"
        folder.parent.mkdir(parents=True)
        folder.symlink_to("/")
        context.clock.advance(31 * 86400)

        await purge(NOTHING, context=context)
        context.clock.advance(60)
        await reconcile(NOTHING, context=context)

        records = await context.store.get_several([image.id for image in [*good, strange]])
        assert all(record.tombstoned_at for record in records.values())
        assert (await context.store.get(linked.id)).deleted_at is not None
        assert f"image {linked.id} is skipped" in caplog.text


@pytest.mark.border(rule="B4")
async def test_records_of_a_newer_version_are_left_alone_by_every_job(tmp_path, newer_version):
    async with cluster(tmp_path, GENERATION_DEADLINE="1h") as context:
        newer = [
            await a_completed_image(context),
            await inserted(context),
            await inserted(context, status=Status.FAILED, pending_event=pending(context)),
        ]
        good = await a_completed_image(context)
        for image in newer:
            newer_version(tmp_path / "darkroom.db", image.id)
        context.clock.advance(40 * 86400)

        for job in (reconcile, purge, sweep):
            await job(NOTHING, context=context)

        assert (await context.store.get(good.id)).tombstoned_at is not None
        assert await context.store.known_ids([image.id for image in newer]) == {image.id for image in newer}
        assert await context.media.exists([newer[0].image_file]) == {newer[0].image_file}


@pytest.mark.border(rule="B4")
async def test_a_purge_that_marks_nothing_does_not_repeat_itself(tmp_path, monkeypatch):
    async with cluster(tmp_path, PURGE_BATCH="1") as context:
        await a_completed_image(context)
        context.clock.advance(31 * 86400)

        async def overtaken(_images):
            return set()

        monkeypatch.setattr(context.store, "replace_several", overtaken)
        await purge(NOTHING, context=context)

        assert await context.bus.waiting(WorkQueue.PURGE) == 0


@pytest.mark.border(rule="B4")
async def test_a_bus_that_is_away_ends_a_step_and_not_the_run(tmp_path, monkeypatch, caplog):
    async with cluster(tmp_path) as context:
        due = [
            await inserted(context, status=Status.FAILED, pending_event=pending(context))
            for _ in range(MAX_FAILURES_IN_A_ROW + 100)
        ]
        buried = await inserted(context, status=Status.FAILED, deleted_at=context.clock.now())
        context.clock.advance(60)
        calls = 0

        async def away(_event):
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            raise Unavailable("bus", "not connected")

        monkeypatch.setattr(context.bus, "publish", away)
        await reconcile(NOTHING, context=context)

        assert (await context.store.get(buried.id)).tombstoned_at is not None
        assert calls < len(due)  # it gives up after some, as each may wait for a timeout
        assert "events due: bus is unavailable: not connected; the next tick continues" in caplog.text


@pytest.mark.border(rule="B4")
@pytest.mark.parametrize(
    "data",
    [{}, {"run": 5}, {"run": "x", "last_start": "soon", "finished": True}, {"run": "x", "last_start": "2025-01-01"}],
)
async def test_a_damaged_entry_of_a_timer_does_not_stop_it(tmp_path, data):
    async with cluster(tmp_path) as context:
        await context.store.put_entry(Entry("timer", WorkQueue.RECONCILE, 1, data))
        runs = []

        async def job(_tick, *, context):
            runs.append(context.ticked_at)

        timer = JanitorTimer(WorkQueue.RECONCILE, 15, job, context)
        tick = Tick(id="1", source="t", type="timer.reconcile", time=context.clock.now(), token=True)

        assert await timer.handle(tick) == Done()
        assert await timer.handle(tick) == Done()

        assert len(runs) == 1
