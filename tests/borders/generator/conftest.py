"""A generator with a janitor, on the bus in memory and on RabbitMQ."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.media.files import FileMedia
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.generator.backends.configured import backends_at
from services.generator.worker import run_generator
from services.janitor.worker import run_janitor
from tests.borders.generator.orders import open_bus
from tests.inference_double import inference_double
from tests.unit.generator.test_generate import FAST, GeneratorBench

BUSES = ["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)]


@pytest.fixture
def capabilities():
    """What the inference service says it can paint: nothing, unless a test gives it."""
    return


@pytest.fixture(params=BUSES)
async def bench(request, tmp_path, capabilities):
    settings, clock, stopping = read_settings(FAST), SystemClock(), asyncio.Event()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        open_bus(request.param, request, settings, clock) as bus,
        inference_double() as inference,
        FileMedia.open(tmp_path / "media") as media,
        asyncio.TaskGroup() as group,
    ):
        inference.capabilities = capabilities
        resources = Resources(bus, store, media, clock)
        group.create_task(
            run_generator(settings, resources, backends=backends_at([inference.url], settings), stopping=stopping)
        )
        group.create_task(run_janitor(settings, resources, stopping=stopping))
        yield GeneratorBench(
            tmp_path, bus=bus, store=store, media=media, inference=inference, settings=settings, clock=clock
        )
        stopping.set()


@pytest.fixture
async def second_generator(bench, request):
    """Another generator of this process, with a connection of its own: the deduplication is not shared."""
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        bus = bench.bus
        if not isinstance(bus, MemoryBus):
            bus = await stack.enter_async_context(open_bus("rabbitmq", request, bench.settings, bench.clock))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        resources = Resources(bus, bench.store, bench.media, bench.clock)
        url = bench.inference.url
        group.create_task(
            run_generator(bench.settings, resources, backends=backends_at([url], bench.settings), stopping=stopping)
        )
        yield
        stopping.set()
