"""The janitor's jobs on a real store, real files and a bus in memory, with a clock that is moved by hand."""

import asyncio
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import pytest

from common import images, moves
from common.bus.memory import MemoryBus
from common.bus.port import DeadLetter, Done, Retry, Since, WorkQueue
from common.clock import ManualClock
from common.errors import MediaMissing
from common.images import EventDue, Format, Lease, Status
from common.media.files import FileMedia
from common.messages import ApiJoined, CancelImage, Tick, TickData
from common.outbox import Outbox
from common.settings import read_settings
from common.store.sqlite import SqliteStore
from services.janitor.orders import bury_letter, cancel
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from services.janitor.sweep import sweep
from services.janitor.timers import Timer
from services.janitor.tools import Tools
from tests.making import an_image

NOTHING = TickData()


@asynccontextmanager
async def house(tmp_path, **more):
    clock = ManualClock()
    settings = read_settings({"PURGE_BATCH": "10", **more})
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        MemoryBus(name="test", clock=clock, log_size=10_000, retry_delays=settings.retry_delays) as bus,
        FileMedia.open(tmp_path / "media") as media,
    ):
        outbox = Outbox(
            bus=bus, store=store, clock=clock, source="janitor", media_url="/media/", retention=timedelta(days=30)
        )
        yield Tools(bus=bus, store=store, media=media, outbox=outbox, settings=settings, clock=clock)


async def told(tools):
    """The events so far: type and subject, in order."""
    mark = ApiJoined(id="mark", source="test", time=tools.clock.now())
    await tools.bus.publish(mark)
    found = []
    async with aclosing(tools.bus.read(Since(tools.clock.now() - timedelta(days=100)))) as entries:
        async for entry in entries:
            if entry.event.id == "mark":
                break
            found.append((entry.event.type, entry.event.subject))
    return found


async def a_completed_image(tools, **fields):
    image = an_image(created_at=tools.clock.now(), attempts=1, status=Status.COMPLETED, format=Format.PNG, **fields)
    image = image.model_copy(
        update={
            "image_file": images.image_key(image, Format.PNG),
            "thumbnail": images.thumbnail_key(image, Format.PNG),
            "file_size": 3,
        }
    )
    await tools.store.insert(image)
    await tools.media.put(image.image_file, b"big")
    await tools.media.put(image.thumbnail, b"s")
    return image


async def inserted(tools, **fields):
    image = an_image(**{"created_at": tools.clock.now(), **fields})
    await tools.store.insert(image)
    return image


def running(tools, until_s, **fields):
    lease = Lease(token="dead", worker="w", until=tools.clock.now() + timedelta(seconds=until_s))
    return {"status": Status.RUNNING, "attempts": 1, "lease": lease, "started_at": tools.clock.now(), **fields}


async def test_reconcile_sends_what_was_recorded_but_never_sent(tmp_path):
    async with house(tmp_path) as tools:
        old = await inserted(tools)
        tools.clock.advance(11)
        young = await inserted(tools)

        await reconcile(NOTHING, tools=tools)

        assert await told(tools) == [("image.queued", old.id)]
        assert (await tools.store.get(old.id)).sent_at == tools.clock.now()
        assert (await tools.store.get(young.id)).sent_at is None
        assert await tools.bus.waiting(WorkQueue.GENERATE) == 1


async def test_reconcile_leaves_a_retry_alone_until_it_is_due(tmp_path):
    async with house(tmp_path) as tools:
        image = await inserted(tools, not_before=tools.clock.now() + timedelta(seconds=60))
        tools.clock.advance(30)
        await reconcile(NOTHING, tools=tools)
        assert (await tools.store.get(image.id)).sent_at is None

        tools.clock.advance(31)
        await reconcile(NOTHING, tools=tools)
        assert (await tools.store.get(image.id)).sent_at is not None


async def test_row_18_reconcile_gives_back_what_a_dead_worker_held(tmp_path):
    async with house(tmp_path) as tools:
        held = await inserted(tools, **running(tools, 30))
        dead = await inserted(tools, **running(tools, 30))
        await reconcile(NOTHING, tools=tools)
        tools.clock.advance(31)
        lease = held.lease.model_copy(update={"until": tools.clock.now()})
        await tools.store.replace(moves.renew(held, lease=lease, attempt=1))

        await reconcile(NOTHING, tools=tools)

        found = await tools.store.get(dead.id)
        assert (found.status, found.lost, found.sent_at) == ("queued", 1, tools.clock.now())
        assert (await tools.store.get(held.id)).status == "running"


async def test_reconcile_fails_what_is_past_its_deadline_and_tells_it(tmp_path):
    async with house(tmp_path, GENERATION_DEADLINE="60") as tools:
        image = await inserted(tools, sent_at=tools.clock.now(), slot="local:0")
        tools.clock.advance(61)

        await reconcile(NOTHING, tools=tools)

        found = await tools.store.get(image.id)
        assert (found.status, found.error.code, found.slot, found.event_due) == ("failed", "deadline", None, None)
        assert await told(tools) == [("image.failed", image.id)]


async def test_row_3_reconcile_sends_again_what_the_broker_lost(tmp_path):
    async with house(tmp_path) as tools:
        image = await inserted(tools, sent_at=tools.clock.now())
        tools.clock.advance(11)

        await reconcile(NOTHING, tools=tools)

        assert await tools.bus.waiting(WorkQueue.GENERATE) == 1
        assert (await tools.store.get(image.id)).sent_at == tools.clock.now()


async def test_a_backlog_is_not_sent_again_at_every_tick(tmp_path):
    async with house(tmp_path) as tools:
        for _ in range(3):
            image = await inserted(tools)
            await tools.outbox.order(image)
        tools.clock.advance(300)

        await reconcile(NOTHING, tools=tools)

        assert await tools.bus.waiting(WorkQueue.GENERATE) == 3


async def test_what_a_later_one_overtook_is_sent_again(tmp_path):
    async with house(tmp_path) as tools:
        lost = await inserted(tools, sent_at=tools.clock.now())
        tools.clock.advance(61)
        await inserted(tools, sent_at=tools.clock.now(), **running(tools, 900))
        waiting = await inserted(tools)
        await tools.outbox.order(waiting)
        tools.clock.advance(11)

        await reconcile(NOTHING, tools=tools)

        assert (await tools.store.get(lost.id)).sent_at == tools.clock.now()
        assert (await tools.store.get(waiting.id)).sent_at < tools.clock.now()


async def test_row_24_reconcile_publishes_the_event_that_is_due(tmp_path):
    async with house(tmp_path) as tools:
        due = EventDue(type="image.completed", revision=4, since=tools.clock.now())
        image = await a_completed_image(tools, event_due=due, revision=4)
        tools.clock.advance(11)

        await reconcile(NOTHING, tools=tools)
        await reconcile(NOTHING, tools=tools)

        assert await told(tools) == [("image.completed", image.id)]


@pytest.mark.parametrize("event_type", ["image.completed", "image.deleted"])
async def test_an_event_that_is_told_again_is_the_same_and_has_the_time_of_its_fact(tmp_path, event_type):
    async with house(tmp_path) as tools:
        due = EventDue(type=event_type, revision=4, since=tools.clock.now())
        image = await a_completed_image(tools, event_due=due, revision=4)

        await tools.outbox.announce(image)
        tools.clock.advance(700)
        await tools.outbox.announce(image)  # by one that was killed before it could note the first

        async with aclosing(tools.bus.read(Since(due.since))) as entries:
            first, again = [(await anext(entries)).event for _ in range(2)]
        assert first == again
        assert first.time == due.since


async def test_reconcile_finishes_a_delete_that_broke_off(tmp_path):
    async with house(tmp_path) as tools:
        image = await a_completed_image(tools)
        await tools.store.replace(moves.delete(image, now=tools.clock.now()))
        tools.clock.advance(11)

        await reconcile(NOTHING, tools=tools)

        tombstone = await tools.store.get(image.id)
        assert (tombstone.buried_at, tombstone.prompt, tombstone.event_due) == (tools.clock.now(), "", None)
        assert await tools.media.exists([image.image_file, image.thumbnail]) == set()
        tools.clock.advance(86401)
        await reconcile(NOTHING, tools=tools)
        assert await tools.store.get(image.id) is None


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
        assert all(record.buried_at for record in records.values())


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


async def test_sweep_removes_files_without_a_record_once_they_are_old(tmp_path):
    async with house(tmp_path, SWEEP_GRACE="60") as tools:
        image = await a_completed_image(tools)
        stray = an_image(attempts=1)
        late = image.model_copy(update={"attempts": 2})
        for key in (images.image_key(stray, Format.PNG), images.thumbnail_key(late, Format.JPEG)):
            await tools.media.put(key, b"stray")
        files = tmp_path / "media"

        await sweep(NOTHING, tools=tools)
        assert len([path for path in files.rglob("*.*") if path.is_file()]) == 4
        tools.clock.advance(10 * 365 * 86400)  # the files are of today, the clock stands in 2025
        await sweep(TickData(dry_run=True), tools=tools)
        assert len([path for path in files.rglob("*.*") if path.is_file()]) == 4
        await sweep(NOTHING, tools=tools)

        left = {str(path.relative_to(files)) for path in files.rglob("*.*") if path.is_file()}
        assert left == {image.image_file, image.thumbnail}


async def test_row_47_sweep_mends_records_whose_files_are_gone(tmp_path):
    async with house(tmp_path) as tools:
        whole = await a_completed_image(tools)
        lost = await a_completed_image(tools)
        bare = await a_completed_image(tools)
        await tools.media.remove([lost.image_file, bare.thumbnail])

        await sweep(NOTHING, tools=tools)

        assert (await tools.store.get(lost.id)).deleted_at is not None
        assert (await tools.store.get(bare.id)).thumbnail is None
        assert await tools.store.get(whole.id) == whole
        assert ("image.deleted", lost.id) in await told(tools)


async def test_sweep_mends_nothing_where_the_media_are_not_there_at_all(tmp_path):
    async with house(tmp_path) as tools:
        kept = [await a_completed_image(tools) for _ in range(30)]
        await tools.media.remove([image.image_file for image in kept])

        with pytest.raises(MediaMissing):
            await sweep(NOTHING, tools=tools)

        assert await tools.store.total("local", {Status.COMPLETED}) == 30


async def test_rows_49_and_51_a_second_token_in_one_interval_does_nothing(tmp_path):
    async with house(tmp_path) as tools:
        runs = []

        async def job(tick, *, tools):
            runs.append(tick)

        timer = Timer(queue=WorkQueue.PURGE, interval_s=60, job=job, tools=tools)

        def token(name, *, is_token=True):
            return Tick(id=name, source="timer", type="timer.purge", time=tools.clock.now(), token=is_token)

        await timer.handle(token("first"))
        await timer.handle(token("first"))
        await timer.handle(token("second"))
        assert len(runs) == 1
        await timer.handle(token("by hand", is_token=False))
        assert len(runs) == 2
        tools.clock.advance(55)
        await timer.handle(token("third"))
        assert len(runs) == 3


async def test_row_50_a_run_that_was_killed_is_resumed_by_its_redelivery(tmp_path):
    async with house(tmp_path) as tools:
        runs = []

        async def job(_tick, *, tools):
            runs.append("begun")
            if len(runs) == 1:
                raise asyncio.CancelledError

        timer = Timer(queue=WorkQueue.PURGE, interval_s=60, job=job, tools=tools)
        tick = Tick(id="run", source="timer", type="timer.purge", time=tools.clock.now(), token=True)

        with pytest.raises(asyncio.CancelledError):
            await timer.handle(tick)
        await timer.handle(tick)
        await timer.handle(tick)

        assert len(runs) == 2


async def test_a_cancel_by_command_is_one_move_and_waits_for_an_order_that_is_late(tmp_path):
    async with house(tmp_path) as tools:
        image = await inserted(tools)
        unheard = an_image(created_at=tools.clock.now())

        def command(image_id):
            return CancelImage(id="1", source="shop", subject=image_id, time=tools.clock.now())

        assert await cancel(command(image.id), tools=tools) == Done()
        assert await cancel(command(image.id), tools=tools) == Done()
        assert isinstance(await cancel(command(unheard.id), tools=tools), Retry)

        assert (await tools.store.get(image.id)).status == "cancelled"
        assert await told(tools) == [("image.cancelled", image.id)]


async def test_a_dead_letter_fails_its_image_unless_a_live_lease_holds_it(tmp_path):
    async with house(tmp_path) as tools:
        waiting = await inserted(tools)
        held = await inserted(tools, **running(tools, 30))

        def letter(body):
            return DeadLetter(id="1", body=body, reason="delivery_limit", queue="image.generate", died_at=None)

        for image in (waiting, held):
            body = f'{{"type": "image.generate", "id": "{image.id}"}}'.encode()
            assert await bury_letter(letter(body), tools=tools) == Done()
        assert await bury_letter(letter(b"\xff not json"), tools=tools) == Done()

        failed = await tools.store.get(waiting.id)
        assert (failed.status, failed.error.code) == ("failed", "delivery_limit")
        assert (await tools.store.get(held.id)).status == "running"


async def test_an_order_that_never_became_a_record_is_told_to_its_owner(tmp_path):
    async with house(tmp_path) as tools:
        order = an_image()
        body = f'{{"type": "image.generate", "id": "{order.id}", "owner": "ada", "data": {{"width": "wide"}}}}'
        letter = DeadLetter(
            id="1", body=body.encode(), reason="invalid_request: width", queue="image.generate", died_at=None
        )

        await bury_letter(letter, tools=tools)

        assert await told(tools) == [("image.failed", order.id)]
