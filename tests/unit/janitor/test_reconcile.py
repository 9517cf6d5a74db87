"""Repair of records after faults; the tests set the clock."""

from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from common.bus.port import Since, WorkQueue
from common.domain import transitions
from common.domain.images import PendingEvent
from services.janitor.reconcile import reconcile
from tests.making import NOON, a_batch
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster, inserted, published_events, running


async def test_reconcile_sends_unsent_commands(tmp_path):
    async with cluster(tmp_path) as context:
        old = await inserted(context)
        context.clock.advance(11)
        young = await inserted(context)

        await reconcile(NOTHING, context=context)

        assert await published_events(context) == [("image.queued", old.id)]
        assert (await context.store.get(old.id)).sent_at == context.clock.now()
        assert (await context.store.get(young.id)).sent_at is None
        assert await context.bus.waiting(WorkQueue.GENERATE) == 1


async def test_reconcile_sends_a_retry_only_when_it_is_due(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context, not_before=context.clock.now() + timedelta(seconds=60))
        context.clock.advance(30)
        await reconcile(NOTHING, context=context)
        assert (await context.store.get(image.id)).sent_at is None

        context.clock.advance(31)
        await reconcile(NOTHING, context=context)
        assert (await context.store.get(image.id)).sent_at is not None


@pytest.mark.fault(row=18)
async def test_reconcile_queues_images_of_dead_workers(tmp_path):
    async with cluster(tmp_path) as context:
        held = await inserted(context, **running(context, 30))
        dead = await inserted(context, **running(context, 30))
        await reconcile(NOTHING, context=context)
        context.clock.advance(31)
        lease = held.lease.model_copy(update={"until": context.clock.now()})
        await context.store.replace(transitions.renew(held, lease=lease, attempt=1))

        await reconcile(NOTHING, context=context)

        found = await context.store.get(dead.id)
        assert (found.status, found.lost, found.sent_at) == ("queued", 1, context.clock.now())
        assert (await context.store.get(held.id)).status == "running"


async def test_reconcile_fails_overdue_images_and_publishes_it(tmp_path):
    async with cluster(tmp_path, GENERATION_DEADLINE="60") as context:
        image = await inserted(context, sent_at=context.clock.now(), slot="local:0")
        context.clock.advance(61)

        await reconcile(NOTHING, context=context)

        found = await context.store.get(image.id)
        assert (found.status, found.error.code, found.slot, found.pending_event) == ("failed", "deadline", None, None)
        assert await published_events(context) == [("image.failed", image.id)]


@pytest.mark.fault(row=3)
async def test_reconcile_resends_commands_the_broker_lost(tmp_path):
    async with cluster(tmp_path) as context:
        image = await inserted(context, sent_at=context.clock.now())
        context.clock.advance(11)

        await reconcile(NOTHING, context=context)

        assert await context.bus.waiting(WorkQueue.GENERATE) == 1
        assert (await context.store.get(image.id)).sent_at == context.clock.now()


async def test_a_backlog_is_not_resent_at_every_tick(tmp_path):
    async with cluster(tmp_path) as context:
        for _ in range(3):
            image = await inserted(context)
            await context.outbox.dispatch(image)
        context.clock.advance(300)

        await reconcile(NOTHING, context=context)

        assert await context.bus.waiting(WorkQueue.GENERATE) == 3


async def test_an_overtaken_command_is_resent(tmp_path):
    async with cluster(tmp_path) as context:
        lost = await inserted(context, sent_at=context.clock.now())
        context.clock.advance(61)
        await inserted(context, sent_at=context.clock.now(), **running(context, 900))
        waiting = await inserted(context)
        await context.outbox.dispatch(waiting)
        context.clock.advance(11)

        await reconcile(NOTHING, context=context)

        assert (await context.store.get(lost.id)).sent_at == context.clock.now()
        assert (await context.store.get(waiting.id)).sent_at < context.clock.now()


@pytest.mark.fault(row=24)
async def test_reconcile_publishes_pending_events(tmp_path):
    async with cluster(tmp_path) as context:
        due = PendingEvent(type="image.completed", revision=4, since=context.clock.now())
        image = await a_completed_image(context, pending_event=due, revision=4)
        context.clock.advance(11)

        await reconcile(NOTHING, context=context)
        await reconcile(NOTHING, context=context)

        assert await published_events(context) == [("image.completed", image.id)]


@pytest.mark.parametrize("event_type", ["image.completed", "image.deleted"])
async def test_a_republished_event_is_identical(tmp_path, event_type):
    async with cluster(tmp_path) as context:
        due = PendingEvent(type=event_type, revision=4, since=context.clock.now())
        image = await a_completed_image(context, pending_event=due, revision=4)

        await context.outbox.publish_pending(image)
        context.clock.advance(700)
        await context.outbox.publish_pending(image)  # by one that was killed before it could note the first

        async with aclosing(context.bus.read(Since(due.since))) as entries:
            first, again = [(await anext(entries)).event for _ in range(2)]
        assert first == again
        assert first.time == due.since


@pytest.mark.border(rule="D3")
@pytest.mark.parametrize(("age", "kept_s"), [("60", 3600), ("1ms", 3600), ("7200", 7200)])
async def test_a_tombstone_outlives_the_hour_of_its_quota(tmp_path, age, kept_s):
    """Without it, an image that was painted and deleted would look like one that was never recorded."""
    async with cluster(tmp_path, TOMBSTONE_AGE=age) as context:
        image = await inserted(context, deleted_at=context.clock.now(), tombstoned_at=context.clock.now())

        context.clock.advance(kept_s - 1)
        await reconcile(NOTHING, context=context)
        assert await context.store.get(image.id) is not None
        context.clock.advance(2)
        await reconcile(NOTHING, context=context)
        assert await context.store.get(image.id) is None


async def test_reconcile_finishes_an_interrupted_delete(tmp_path):
    async with cluster(tmp_path) as context:
        image = await a_completed_image(context)
        await context.store.replace(transitions.delete(image, now=context.clock.now()))
        context.clock.advance(11)

        await reconcile(NOTHING, context=context)

        tombstone = await context.store.get(image.id)
        assert (tombstone.tombstoned_at, tombstone.prompt, tombstone.pending_event) == (context.clock.now(), "", None)
        assert await context.media.exists([image.image_file, image.thumbnail]) == set()
        context.clock.advance(86401)
        await reconcile(NOTHING, context=context)
        assert await context.store.get(image.id) is None


async def test_reconcile_completes_a_batch_and_gives_its_turns(tmp_path):
    """The process died after the first of four was recorded; a younger one may still be about to complete its own."""
    async with cluster(tmp_path, WAITING_REQUESTS="1") as context:
        old = a_batch(created_at=context.clock.now())
        await context.store.insert(old)
        context.clock.advance(11)
        young = a_batch(created_at=context.clock.now())
        await context.store.insert(young)

        await reconcile(NOTHING, context=context)

        members = await context.store.batch_members(old.id)
        assert [image.batch.index for image in members] == [0, 1, 2, 3]
        assert (members[0].batch_due, members[0].sent_at) == (None, context.clock.now())
        queued = [image_id for event, image_id in await published_events(context) if event == "image.queued"]
        assert set(queued) == {image.id for image in members}
        assert await context.store.batch_members(young.id) == [young]
        await reconcile(NOTHING, context=context)
        assert len(await context.store.batch_members(old.id)) == 4


async def test_a_deleted_first_is_no_tombstone_before_its_batch(tmp_path):
    async with cluster(tmp_path) as context:
        first = transitions.delete(a_batch(created_at=context.clock.now()), now=context.clock.now())
        await context.store.insert(first)
        context.clock.advance(11)

        await reconcile(NOTHING, context=context)

        members = await context.store.batch_members(first.id)
        assert [image.deleted_at is None for image in members] == [False, True, True, True]
        assert (members[0].tombstoned_at, members[0].prompt) == (context.clock.now(), "")
        assert {image.prompt for image in members[1:]} == {"a lighthouse"}


async def test_reconcile_gives_turns_that_nobody_else_gives(tmp_path):
    """Three owners wait: one holds both slots, one holds the first, one holds none. No event is left to cause it."""
    async with cluster(tmp_path) as context:
        context = replace(context, outbox=replace(context.outbox, slots=2))
        lines = {}
        for owner, held in (("ada", 2), ("bob", 1), ("cleo", 0)):
            for number in range(held):
                await inserted(context, owner=owner, slot=f"{owner}:{number}", sent_at=context.clock.now())
            waiting = [await inserted(context, owner=owner, waiting_since=NOON) for _ in range(3)]
            lines[owner] = sorted(image.id for image in waiting)

        await reconcile(NOTHING, context=context)

        left = {owner: list(await context.store.waiting_line(owner, limit=5)) for owner in lines}
        assert left == {"ada": lines["ada"], "bob": lines["bob"][1:], "cleo": lines["cleo"][2:]}
        assert await context.bus.waiting(WorkQueue.GENERATE) == 3


async def test_reconcile_gives_turns_to_any_number_of_owners(tmp_path, monkeypatch):
    """Nine owners wait without a free slot before the one who has one."""
    monkeypatch.setattr("services.janitor.reconcile.PAGE", 2)
    monkeypatch.setattr("services.janitor.reconcile.MAX_PAGES", 2)
    monkeypatch.setattr("services.janitor.reconcile.MAX_KEYS", 1)
    async with cluster(tmp_path) as context:
        context = replace(context, outbox=replace(context.outbox, slots=1))
        for number in range(9):
            await inserted(context, owner=f"a{number}", slot=f"a{number}:0", sent_at=context.clock.now())
            await inserted(context, owner=f"a{number}", waiting_since=NOON)
        await inserted(context, owner="zoe", waiting_since=NOON)

        await reconcile(NOTHING, context=context)

        assert list(await context.store.waiting_line("zoe", limit=5)) == []


async def test_a_raised_or_removed_limit_is_applied_by_reconcile(tmp_path):
    async with cluster(tmp_path) as context:
        for _ in range(4):
            await inserted(context, waiting_since=NOON)
        left = []
        for slots in (1, 1, 2, 0):
            limited = replace(context, outbox=replace(context.outbox, slots=slots))
            await reconcile(NOTHING, context=limited)
            left.append(await context.store.count_waiting("local", limit=5))

        assert left == [3, 3, 2, 0]


async def test_an_image_that_waits_too_long_fails(tmp_path):
    """The deadline of the line is its own; that of the generation begins with the dispatch."""
    async with cluster(tmp_path, GENERATION_DEADLINE="60", WAITING_DEADLINE="600") as context:
        late = NOON + timedelta(seconds=555)
        await inserted(context, slot="local:0", sent_at=NOON, dispatched_at=late)
        context = replace(context, outbox=replace(context.outbox, slots=1))
        waiting = await inserted(context, waiting_since=NOON)
        context.clock.advance(599)
        await reconcile(NOTHING, context=context)
        before = await context.store.count_waiting("local", limit=5)
        context.clock.advance(2)

        await reconcile(NOTHING, context=context)

        failed = await context.store.get(waiting.id)
        assert before == 1
        assert (failed.status, failed.error.code, failed.is_waiting) == ("failed", "deadline", False)
        assert ("image.failed", waiting.id) in await published_events(context)
