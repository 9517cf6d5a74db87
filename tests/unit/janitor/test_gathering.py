"""The figures of the deployment: gathered by one janitor, shown by all."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from common.application.fleet.reader import Fleet
from common.application.operation.exposition import FiguresCollector, shown_figures
from common.application.operation.figures import KEY, KIND, Figures, read_figures
from common.bus.port import Reject, WorkQueue
from common.domain.errors import Unavailable
from common.domain.images import Status
from common.messages import GenerateImage, Tick
from common.store.port import Entry
from services.janitor.gathering import FigureGatherer
from services.janitor.timers import JanitorTimer
from tests.announcing import FakeGenerator
from tests.making import an_outbox
from tests.unit.janitor.support import a_completed_image, cluster, inserted
from tests.waiting import until


@pytest.fixture
async def context(tmp_path):
    async with cluster(tmp_path, PURGE_INTERVAL="1h") as context:
        fleet = Fleet(context.store, context.clock)
        outbox = an_outbox(context.bus, context.store, context.clock, source="janitor", fleet=fleet)
        yield replace(context, outbox=outbox)


async def gathered(context) -> Figures:
    """What a janitor writes that has the tick."""
    gatherer = FigureGatherer(context)
    running = asyncio.create_task(gatherer.run())
    gatherer.request()
    try:
        await until(lambda: media_are_counted(context))
    finally:
        running.cancel()
        await asyncio.wait([running])
    figures, _ = await read_figures(context.store)
    assert figures is not None
    return figures


async def media_are_counted(context) -> bool:
    figures, _ = await read_figures(context.store)
    return figures is not None and figures.media is not None and figures.media.counted_at >= figures.gathered_at


def exposed(collector) -> dict[str, float]:
    """The samples by their names, with their labels as Prometheus writes them."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_what_a_janitor_gathers_another_one_shows(context):
    """One of each kind of work; the ages grow until the next figures come."""
    clock = context.clock
    sent_at = clock.now() - timedelta(seconds=30)
    await inserted(context, sent_at=sent_at)
    await inserted(context, status=Status.RUNNING, sent_at=sent_at)
    await inserted(context, pool="flux")
    await inserted(context, waiting_since=sent_at)
    await a_completed_image(context)
    await FakeGenerator(context.store, clock, pool="default").offer("sdxl")
    image = await inserted(context, sent_at=sent_at)
    await context.bus.send(GenerateImage(id=image.id, source="api", time=clock.now(), owner="local"))

    figures = await gathered(context)

    collector = FiguresCollector()
    collector.show(figures, clock)
    found = exposed(collector)
    assert found['darkroom_queue_messages{queue="image.work.default"}'] == 1
    assert found['darkroom_queue_oldest_age_seconds{queue="image.work.default"}'] == 30
    pools = {name: [found[f'darkroom_{name}{{pool="{pool}"}}'] for pool in ("default", "flux")] for name in POOLED}
    assert pools == {"images_queued": [2, 1], "images_running": [1, 0], "images_unsent": [0, 1], "generators": [1, 0]}
    assert (found["darkroom_images_lined_up"], found["darkroom_pending_events"], found["darkroom_dead_letters"]) == (
        (1, 0, 0)
    )
    assert (found["darkroom_media_files"], found["darkroom_media_bytes"]) == (2, 4)
    assert found["darkroom_next_purge_timestamp_seconds"] == (clock.now() + timedelta(hours=1)).timestamp()
    clock.advance(20)
    collector.show(figures, clock)
    later = exposed(collector)
    assert later["darkroom_figures_age_seconds"] == 20
    assert later['darkroom_queue_oldest_age_seconds{queue="image.work.default"}'] == 50


POOLED = ("images_queued", "images_running", "images_unsent", "generators")


async def test_a_process_without_figures_shows_none(context):
    assert exposed(FiguresCollector()) == {}

    await gathered(context)

    assert exposed(shown_figures) == {}  # the janitor has stopped


async def test_dead_letters_are_counted_without_reading_them(context):
    async def reject(_message):
        return Reject("no such model")

    async with context.bus.consume(WorkQueue.GENERATE, reject, concurrency=1):
        image = await inserted(context)
        await context.bus.send(GenerateImage(id=image.id, source="api", time=context.clock.now(), owner="local"))
        await until(lambda: has_one(context))

    assert (await gathered(context)).dead_letters == 1


async def has_one(context) -> bool:
    return await context.bus.count_dead_letters() == 1


async def test_records_are_counted_while_the_bus_is_away(context, monkeypatch):
    async def away(*_arguments, **_more):
        raise Unavailable("bus", "away")

    monkeypatch.setattr(context.bus, "waiting", away)
    monkeypatch.setattr(context.bus, "count_dead_letters", away)
    await inserted(context)

    figures = await gathered(context)

    assert (figures.queues, figures.dead_letters, figures.pools["default"].queued) == ({}, None, 1)


@pytest.mark.parametrize("data", [{"gathered_at": "of a newer version"}, {"gathered_at": "2025-01-15T12:00:00"}, {}])
async def test_an_unreadable_entry_is_replaced(context, data):
    await context.store.put_entry(Entry(KIND, KEY, 1, data))

    assert (await gathered(context)).lined_up == 0


async def test_media_are_counted_again_when_it_is_due(context):
    """A folder whose count took a second is counted again after a hundred."""
    first = (await gathered(context)).media
    slow = first.model_copy(update={"took_s": 1.0})
    gatherer = FigureGatherer(context)

    due = []
    for seconds in (59, 40, 1):
        context.clock.advance(seconds)
        due.append((gatherer._is_due(first), gatherer._is_due(slow)))

    assert due == [(False, False), (True, False), (True, True)]


async def test_owners_without_a_generator_are_counted_by_pool(context):
    """An image of a live model waits for its turn only. Without an announced model nothing is known to be missing."""
    store, clock = context.store, context.clock
    for owner, model in (("ada", "flux"), ("ada", "flux"), ("ben", "flux"), ("ben", "sdxl"), ("eve", "sdxl")):
        await inserted(context, owner=owner, model=model, waiting_since=clock.now())
    gatherer = FigureGatherer(context)
    assert (await gatherer.count()).pools == {}

    await FakeGenerator(store, clock, "a").offer("sdxl")
    gone = await FakeGenerator(store, clock, "b", pool="flux").offer("flux")
    counts = []
    for change in (None, gone.stop, gone.beat):
        await change() if change is not None else None
        clock.advance(3)
        counts.append({name: pool.owners_without_generator for name, pool in (await gatherer.count()).pools.items()})

    assert counts == [{"default": 0, "flux": 0}, {"default": 0, "flux": 2}, {"default": 0, "flux": 0}]


async def test_a_purge_that_fails_is_late(context):
    """The next one is due an interval after the last that did not fail."""
    outcomes = [None, Unavailable("store"), Unavailable("store"), None]

    async def purge(_tick, *, context):
        if error := outcomes.pop(0):
            raise error

    timer = JanitorTimer(queue=WorkQueue.PURGE, interval_s=3600, job=purge, context=context)
    gatherer, late_s = FigureGatherer(context), []
    for number in range(4):
        tick = Tick(id=str(number), source="bus", type="timer.purge", time=context.clock.now(), token=True)
        await timer.handle(tick)
        next_purge = (await gatherer.count()).next_purge
        late_s.append((context.clock.now() - next_purge).total_seconds())
        context.clock.advance(3600)

    assert late_s == [-3600, 0, 3600, -3600]


async def test_an_unforeseen_error_ends_no_janitor(context, monkeypatch, caplog):
    """The next tick gathers again."""
    walk = context.media.walk
    failures = [RuntimeError("odd")]

    def odd_once():
        if failures:
            raise failures.pop()
        return walk()

    monkeypatch.setattr(context.media, "walk", odd_once)
    gatherer = FigureGatherer(context)
    running = asyncio.create_task(gatherer.run())
    gatherer.request()
    await until(lambda: "odd" in caplog.text)

    gatherer.request()

    await until(lambda: media_are_counted(context))
    running.cancel()
    await asyncio.wait([running])
