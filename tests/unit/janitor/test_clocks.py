"""Row 17: a host whose clock is wrong by an hour, or by years. A tick of the bus brings a second clock to compare."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from common.bus.port import DeadLetter, WorkQueue
from common.domain import transitions
from common.domain.images import Lease, Status
from common.messages import Tick, TickData
from common.runtime.clock import ManualClock
from services.janitor.agreement import Agreement
from services.janitor.leases import LeaseWatch
from services.janitor.orders import fail_dead_letter
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from services.janitor.timers import Timer
from tests.unit.janitor.support import NOTHING, a_completed_image, house, inserted, running

HOUR_S = 3600
YEARS_S = 5 * 365 * 86400


def token(queue, clock, name="run"):
    return Tick(id=name, source="bus", type=queue.value, time=clock.now(), token=True)


def elsewhere(tools, seconds):
    """The tools of a janitor on another host, whose clock is wrong by so much."""
    clock = ManualClock(tools.clock.now() + timedelta(seconds=seconds))
    return replace(tools, clock=clock, outbox=replace(tools.outbox, clock=clock), leases=LeaseWatch())


async def ticked(tools, queue, job, *, at, name="run"):
    await Timer(queue=queue, interval_s=60, job=job, tools=tools).handle(token(queue, at, name))


async def test_row_17_a_janitor_ahead_of_the_bus_ends_nothing_early(tmp_path):
    async with house(tmp_path) as tools:
        waiting = await inserted(tools, sent_at=tools.clock.now())
        kept = await a_completed_image(tools)
        ahead = elsewhere(tools, YEARS_S)

        await ticked(ahead, WorkQueue.RECONCILE, reconcile, at=tools.clock)
        await ticked(ahead, WorkQueue.PURGE, purge, at=tools.clock)

        assert (await tools.store.get(waiting.id)).status == "queued"
        assert await tools.store.get(kept.id) == kept
        assert await tools.media.exists([kept.image_file]) == {kept.image_file}


async def test_row_17_a_purge_by_hand_is_judged_by_when_it_was_asked_for(tmp_path):
    async with house(tmp_path) as tools:
        kept = await a_completed_image(tools)
        ahead = elsewhere(tools, YEARS_S)
        tick = Tick(
            id="1", source="cli", type="timer.purge", time=tools.clock.now(), data=TickData(older_than=7 * 86400)
        )

        await Timer(queue=WorkQueue.PURGE, interval_s=60, job=purge, tools=ahead).handle(tick)

        assert await tools.store.get(kept.id) == kept


async def test_row_17_a_janitor_behind_the_bus_sends_what_is_unsent_all_the_same(tmp_path):
    async with house(tmp_path) as tools:
        unsent = await inserted(tools)
        tools.clock.advance(11)
        behind = elsewhere(tools, -HOUR_S)

        await ticked(behind, WorkQueue.RECONCILE, reconcile, at=tools.clock)

        assert (await tools.store.get(unsent.id)).sent_at is not None


async def test_row_17_a_step_of_the_one_clock_there_is_ends_nothing_early(tmp_path):
    """All in one process: the bus has no other clock than the janitor."""
    async with house(tmp_path) as tools:
        waiting = await inserted(tools, sent_at=tools.clock.now())
        tools.clock.step(HOUR_S)

        await ticked(tools, WorkQueue.RECONCILE, reconcile, at=tools.clock)
        assert (await tools.store.get(waiting.id)).status == "queued"

        tools.clock.advance(900)
        await ticked(tools, WorkQueue.RECONCILE, reconcile, at=tools.clock, name="next")
        assert (await tools.store.get(waiting.id)).status == "failed"


async def test_row_17_a_run_of_a_janitor_that_was_ahead_holds_up_no_other(tmp_path):
    async with house(tmp_path) as tools:
        runs = []

        async def job(_tick, *, tools):
            runs.append(tools.ticked_at)

        await ticked(elsewhere(tools, HOUR_S), WorkQueue.RECONCILE, job, at=tools.clock, name="first")
        tools.clock.advance(60)
        await ticked(tools, WorkQueue.RECONCILE, job, at=tools.clock, name="second")
        tools.clock.step(-HOUR_S)  # the clock of the bus itself
        await ticked(tools, WorkQueue.RECONCILE, job, at=tools.clock, name="third")

        assert len(runs) == 3


@pytest.mark.parametrize("wrong_s", [HOUR_S, 0, -HOUR_S])
async def test_row_17_a_lease_is_over_when_it_is_not_renewed_whatever_the_clock_that_gave_it(tmp_path, wrong_s):
    async with house(tmp_path) as tools:
        alive, dead = [await inserted(tools, **running(tools, wrong_s + 30)) for _ in range(2)]

        for _ in range(4):
            await reconcile(NOTHING, tools=tools)
            tools.clock.advance(10)
            until = tools.clock.now() + timedelta(seconds=wrong_s + 30)
            renewed = transitions.renew(alive, lease=Lease(token="dead", worker="w", until=until), attempt=1)
            assert await tools.store.replace(renewed)
            alive = renewed

        assert (await tools.store.get(alive.id)).status == Status.RUNNING
        assert (await tools.store.get(dead.id)).status == Status.QUEUED


async def test_row_17_what_was_sent_by_a_clock_ahead_does_not_have_the_backlog_sent_at_every_tick(tmp_path):
    async with house(tmp_path) as tools:
        future = tools.clock.now() + timedelta(seconds=HOUR_S)
        await inserted(tools, **running(tools, 30, sent_at=future, started_at=future))
        for _ in range(3):
            await tools.outbox.order(await inserted(tools))
        tools.clock.advance(20)

        await reconcile(NOTHING, tools=tools)

        assert await tools.bus.waiting(WorkQueue.GENERATE) == 3


async def test_row_17_a_dead_letter_is_judged_by_when_it_died(tmp_path):
    async with house(tmp_path) as tools:
        held = await inserted(tools, **running(tools, 30))
        ahead = elsewhere(tools, HOUR_S)
        body = f'{{"type": "image.generate", "id": "{held.id}"}}'.encode()
        letter = DeadLetter(
            id="1", body=body, reason="delivery_limit", queue="image.generate", died_at=tools.clock.now()
        )

        await fail_dead_letter(letter, tools=ahead)

        assert (await tools.store.get(held.id)).status == "running"


def test_row_17_clocks_that_disagree_are_told_once_and_so_is_their_mending(caplog):
    agreement, bus, own = Agreement(), ManualClock(), ManualClock()

    def tick():
        for clock in (bus, own):
            clock.advance(15)
        agreement.compare(own=own.now(), now_s=own.monotonic(), ticked_at=bus.now())

    with caplog.at_level(logging.INFO):
        tick()
        assert caplog.messages == []
        own.step(HOUR_S)
        for _ in range(5):
            tick()
        assert [(record.levelname, "3600 s ahead of" in record.message) for record in caplog.records] == [
            ("WARNING", True)
        ]
        assert "NTP" in caplog.text
        own.step(-HOUR_S)
        for _ in range(5):
            tick()

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_tick_that_waited_for_a_janitor_is_no_disagreement(caplog):
    agreement, clock = Agreement(), ManualClock()
    old = clock.now()
    clock.advance(600)

    agreement.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=old)
    agreement.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=clock.now())

    assert caplog.records == []


def test_ticks_that_each_wait_for_the_run_before_are_no_disagreement(caplog):
    agreement, clock = Agreement(), ManualClock()
    for _ in range(5):
        ticked_at = clock.now()
        clock.advance(15)  # it waits for so long, steadily
        agreement.ran(clock.monotonic())
        agreement.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=ticked_at)

    assert caplog.records == []


async def test_a_lease_lasts_as_long_as_its_worker_says_where_that_is_longer(tmp_path):
    """A janitor and a generator whose LEASE is not the same, as while a change of it is rolled out."""
    async with house(tmp_path) as tools:
        lease = Lease(token="t", worker="w", until=tools.clock.now(), length_s=4 * tools.settings.lease)
        held = await inserted(tools, **{**running(tools, 30), "lease": lease})

        found = []
        for _ in range(6):
            await reconcile(NOTHING, tools=tools)
            found.append((await tools.store.get(held.id)).status)
            tools.clock.advance(tools.settings.lease)

        assert found == [Status.RUNNING] * 4 + [Status.QUEUED] * 2


async def test_what_a_long_purge_marks_bears_the_time_of_its_mark(tmp_path):
    """Or a reconcile meanwhile would take it for something left behind."""
    async with house(tmp_path) as tools:
        working = tools.at(tools.clock.now())
        tools.clock.advance(60)

        assert working.surely() == working.perhaps() == tools.clock.now()
