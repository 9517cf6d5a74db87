"""What a fault left on the records, found and carried on; the clock is moved by hand."""

from contextlib import aclosing
from datetime import timedelta

import pytest

from common.bus.port import Since, WorkQueue
from common.domain import transitions
from common.domain.images import PendingEvent
from services.janitor.reconcile import reconcile
from tests.unit.janitor.support import NOTHING, a_completed_image, house, inserted, running, told


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
        await tools.store.replace(transitions.renew(held, lease=lease, attempt=1))

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
        assert (found.status, found.error.code, found.slot, found.pending_event) == ("failed", "deadline", None, None)
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
        due = PendingEvent(type="image.completed", revision=4, since=tools.clock.now())
        image = await a_completed_image(tools, pending_event=due, revision=4)
        tools.clock.advance(11)

        await reconcile(NOTHING, tools=tools)
        await reconcile(NOTHING, tools=tools)

        assert await told(tools) == [("image.completed", image.id)]


@pytest.mark.parametrize("event_type", ["image.completed", "image.deleted"])
async def test_an_event_that_is_told_again_is_the_same_and_has_the_time_of_its_fact(tmp_path, event_type):
    async with house(tmp_path) as tools:
        due = PendingEvent(type=event_type, revision=4, since=tools.clock.now())
        image = await a_completed_image(tools, pending_event=due, revision=4)

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
        await tools.store.replace(transitions.delete(image, now=tools.clock.now()))
        tools.clock.advance(11)

        await reconcile(NOTHING, tools=tools)

        tombstone = await tools.store.get(image.id)
        assert (tombstone.tombstoned_at, tombstone.prompt, tombstone.pending_event) == (tools.clock.now(), "", None)
        assert await tools.media.exists([image.image_file, image.thumbnail]) == set()
        tools.clock.advance(86401)
        await reconcile(NOTHING, tools=tools)
        assert await tools.store.get(image.id) is None
