"""One owner with many orders delays nobody else, in short; `make bench-fairness` measures it at size."""

import asyncio

import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.media.files import FileMedia
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.api.service import api_running
from services.generator.backends.configured import backends_at
from services.generator.worker import run_generator
from services.janitor.worker import run_janitor
from tests.faults.fairness import FairnessLoad, play
from tests.inference_double import inference_double
from tests.security import callers


@pytest.mark.long
async def test_many_orders_of_one_owner_delay_nobody_else(tmp_path):
    """60 orders by the bus would take 15 s; a greedy owner fills its line. Two others wait for a few paintings each."""
    load = FairnessLoad(orders=60, seconds=4, slots=2, paint_s=0.5, others=2, every_s=1.5)
    limits = {"REQUESTS_PER_HOUR": "0", "GENERATOR_CONCURRENCY": str(load.slots), "API_PORT": "0"}
    settings, clock, stopping = read_settings({**callers.settings_of(), **limits}), SystemClock(), asyncio.Event()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        MemoryBus(clock=clock, retry_delays=settings.retry_delays) as bus,
        FileMedia.open(tmp_path / "media") as media,
        inference_double() as inference,
        asyncio.TaskGroup() as group,
    ):
        inference.always(load.paint)
        resources = Resources(bus, store, media, clock)
        async with api_running(settings, resources) as port:
            services = [
                group.create_task(
                    run_generator(
                        settings, resources, backends=backends_at([inference.url], settings), stopping=stopping
                    )
                ),
                group.create_task(run_janitor(settings, resources, stopping=stopping)),
            ]
            found = await play(load, bus=bus, url=f"http://127.0.0.1:{port}")
            waiting = await store.count_waiting("newsletter", limit=1000)
            for task in services:
                task.cancel()

    assert len(found.waits) >= 4
    assert found.greedy >= 22
    assert waiting >= 40
    assert (found.unstarted, max(found.waits) <= load.bound_s) == (0, True), (found, load.bound_s)
