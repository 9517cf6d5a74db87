"""Row 17: a host whose clock is wrong by an hour, or by years. A tick of the bus gives a second time to compare."""

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from common.bus.port import DeadLetter, WorkQueue
from common.domain import transitions
from common.domain.images import Lease, Status
from common.messages import Tick, TickData
from common.runtime.clock import ManualClock
from services.janitor.clock_comparison import ClockComparison
from services.janitor.dead_letters import fail_dead_letter
from services.janitor.leases import LeaseWatch
from services.janitor.purge import purge
from services.janitor.reconcile import reconcile
from services.janitor.timers import JanitorTimer
from tests.unit.janitor.support import NOTHING, a_completed_image, cluster, inserted, running

HOUR_S = 3600
YEARS_S = 5 * 365 * 86400


def token(queue, clock, name="run"):
    return Tick(id=name, source="bus", type=queue.value, time=clock.now(), token=True)


def with_clock_error(context, seconds):
    """The context of a janitor on another host, whose clock is wrong by so many seconds."""
    clock = ManualClock(context.clock.now() + timedelta(seconds=seconds))
    return replace(context, clock=clock, outbox=replace(context.outbox, clock=clock), leases=LeaseWatch())


async def ticked(context, queue, job, *, at, name="run"):
    await JanitorTimer(queue=queue, interval_s=60, job=job, context=context).handle(token(queue, at, name))


@pytest.mark.fault(row=17)
async def test_a_janitor_ahead_expires_nothing_early(tmp_path):
    async with cluster(tmp_path) as context:
        waiting = await inserted(context, sent_at=context.clock.now())
        kept = await a_completed_image(context)
        ahead = with_clock_error(context, YEARS_S)

        await ticked(ahead, WorkQueue.RECONCILE, reconcile, at=context.clock)
        await ticked(ahead, WorkQueue.PURGE, purge, at=context.clock)

        assert (await context.store.get(waiting.id)).status == "queued"
        assert await context.store.get(kept.id) == kept
        assert await context.media.exists([kept.image_file]) == {kept.image_file}


@pytest.mark.fault(row=17)
async def test_a_purge_by_hand_uses_the_time_of_its_tick(tmp_path):
    async with cluster(tmp_path) as context:
        kept = await a_completed_image(context)
        ahead = with_clock_error(context, YEARS_S)
        tick = Tick(
            id="1", source="cli", type="timer.purge", time=context.clock.now(), data=TickData(older_than=7 * 86400)
        )

        await JanitorTimer(queue=WorkQueue.PURGE, interval_s=60, job=purge, context=ahead).handle(tick)

        assert await context.store.get(kept.id) == kept


@pytest.mark.fault(row=17)
async def test_a_janitor_behind_the_bus_sends_unsent_commands(tmp_path):
    async with cluster(tmp_path) as context:
        unsent = await inserted(context)
        context.clock.advance(11)
        behind = with_clock_error(context, -HOUR_S)

        await ticked(behind, WorkQueue.RECONCILE, reconcile, at=context.clock)

        assert (await context.store.get(unsent.id)).sent_at is not None


@pytest.mark.fault(row=17)
async def test_a_step_of_the_only_clock_expires_nothing_early(tmp_path):
    """In one process the bus has no other clock than the janitor."""
    async with cluster(tmp_path) as context:
        waiting = await inserted(context, sent_at=context.clock.now())
        context.clock.step(HOUR_S)

        await ticked(context, WorkQueue.RECONCILE, reconcile, at=context.clock)
        assert (await context.store.get(waiting.id)).status == "queued"

        context.clock.advance(900)
        await ticked(context, WorkQueue.RECONCILE, reconcile, at=context.clock, name="next")
        assert (await context.store.get(waiting.id)).status == "failed"


@pytest.mark.fault(row=17)
async def test_a_run_recorded_in_the_future_blocks_no_other(tmp_path):
    async with cluster(tmp_path) as context:
        runs = []

        async def job(_tick, *, context):
            runs.append(context.ticked_at)

        await ticked(with_clock_error(context, HOUR_S), WorkQueue.RECONCILE, job, at=context.clock, name="first")
        context.clock.advance(60)
        await ticked(context, WorkQueue.RECONCILE, job, at=context.clock, name="second")
        context.clock.step(-HOUR_S)  # the clock of the bus itself
        await ticked(context, WorkQueue.RECONCILE, job, at=context.clock, name="third")

        assert len(runs) == 3


@pytest.mark.fault(row=17)
@pytest.mark.parametrize("wrong_s", [HOUR_S, 0, -HOUR_S])
async def test_a_lease_expires_only_if_it_is_not_renewed(tmp_path, wrong_s):
    async with cluster(tmp_path) as context:
        alive, dead = [await inserted(context, **running(context, wrong_s + 30)) for _ in range(2)]

        for _ in range(4):
            await reconcile(NOTHING, context=context)
            context.clock.advance(10)
            until = context.clock.now() + timedelta(seconds=wrong_s + 30)
            renewed = transitions.renew(alive, lease=Lease(token="dead", worker="w", until=until), attempt=1)
            assert await context.store.replace(renewed)
            alive = renewed

        assert (await context.store.get(alive.id)).status == Status.RUNNING
        assert (await context.store.get(dead.id)).status == Status.QUEUED


@pytest.mark.fault(row=17)
async def test_a_start_in_the_future_resends_no_backlog(tmp_path):
    async with cluster(tmp_path) as context:
        future = context.clock.now() + timedelta(seconds=HOUR_S)
        await inserted(context, **running(context, 30, sent_at=future, started_at=future))
        for _ in range(3):
            await context.outbox.dispatch(await inserted(context))
        context.clock.advance(20)

        await reconcile(NOTHING, context=context)

        assert await context.bus.waiting(WorkQueue.GENERATE) == 3


@pytest.mark.fault(row=17)
async def test_a_dead_letter_uses_the_time_of_its_death(tmp_path):
    async with cluster(tmp_path) as context:
        held = await inserted(context, **running(context, 30))
        ahead = with_clock_error(context, HOUR_S)
        body = f'{{"type": "image.generate", "id": "{held.id}"}}'.encode()
        letter = DeadLetter(
            id="1", body=body, reason="delivery_limit", queue="image.generate", died_at=context.clock.now()
        )

        await fail_dead_letter(letter, context=ahead)

        assert (await context.store.get(held.id)).status == "running"


@pytest.mark.fault(row=17)
def test_a_clock_difference_is_logged_once(caplog):
    comparison, bus, own = ClockComparison(), ManualClock(), ManualClock()

    def tick():
        for clock in (bus, own):
            clock.advance(15)
        comparison.compare(own=own.now(), now_s=own.monotonic(), ticked_at=bus.now())

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


def test_a_tick_that_waited_for_a_janitor_is_no_difference(caplog):
    comparison, clock = ClockComparison(), ManualClock()
    old = clock.now()
    clock.advance(600)

    comparison.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=old)
    comparison.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=clock.now())

    assert caplog.records == []


def test_ticks_that_wait_for_the_run_before_are_no_difference(caplog):
    comparison, clock = ClockComparison(), ManualClock()
    for _ in range(5):
        ticked_at = clock.now()
        clock.advance(15)  # it waits for so long, steadily
        comparison.run_ended(clock.monotonic())
        comparison.compare(own=clock.now(), now_s=clock.monotonic(), ticked_at=ticked_at)

    assert caplog.records == []


async def test_a_longer_lease_of_a_worker_is_respected(tmp_path):
    """The LEASE of janitor and generator may differ while a change of it is rolled out."""
    async with cluster(tmp_path) as context:
        lease = Lease(token="t", worker="w", until=context.clock.now(), length_s=4 * context.settings.lease)
        held = await inserted(context, **{**running(context, 30), "lease": lease})

        found = []
        for _ in range(6):
            await reconcile(NOTHING, context=context)
            found.append((await context.store.get(held.id)).status)
            context.clock.advance(context.settings.lease)

        assert found == [Status.RUNNING] * 4 + [Status.QUEUED] * 2


async def test_a_long_purge_marks_images_with_the_current_time(tmp_path):
    """Otherwise a concurrent reconcile would take the image for an unfinished delete."""
    async with cluster(tmp_path) as context:
        working = context.at(context.clock.now())
        context.clock.advance(60)

        assert working.earliest() == working.latest() == context.clock.now()
