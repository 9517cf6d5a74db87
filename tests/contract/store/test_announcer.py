"""The announcements of a generator in each store, whatever happens to its entries."""

import asyncio
from types import SimpleNamespace

import pytest

from common.application.capabilities import Capabilities, Model
from common.application.fleet.announcements import CATALOGUES, HEARTBEATS
from common.application.fleet.reader import Fleet
from common.bus.memory import MemoryBus
from common.bus.port import WorkQueue
from common.domain.errors import Transient, Unavailable, Unreachable
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from services.generator.announcer import MAX_CATALOGUES, Announcer
from services.generator.backends.backend import Backend
from services.generator.backends.backends import Backends
from services.generator.backends.definition import BackendDefinition
from tests.waiting import until

HOUR = 3600.0
BACKEND = {"name": "left", "circuit": "closed", "concurrency": 3}


class AnnouncedServer:
    """An inference service that says what a test wants."""

    def __init__(self) -> None:
        self.models: list[str] = ["sdxl"]
        self.error: Exception | None = None
        self.notice = ""
        self.more: dict[str, dict] = {}  # further fields of models

    async def capabilities(self, *, fresh=False) -> Capabilities:
        if self.error is not None:
            raise self.error
        return Capabilities(
            models=tuple(Model(id=name, **self.more.get(name, {})) for name in self.models),
            notice=self.notice,
            dialect="fake",
        )

    async def generate(self, job, on_progress, on_preview=None):
        raise NotImplementedError

    async def stop(self, job) -> None:
        raise NotImplementedError


class AskingAnnouncer(Announcer):
    """Asks its back ends whenever it updates its catalogue, as its task does."""

    async def update_catalogue(self) -> None:
        for backend in self.backends.all:
            await backend.refresh(opens_circuit=False)
        await super().update_catalogue()


@pytest.fixture
async def made(store):
    clock, server = ManualClock(), AnnouncedServer()
    settings = read_settings({"GENERATOR_POOL": "gpu", "GENERATOR_CONCURRENCY": "3", "ANNOUNCE_INTERVAL": "0.1"})
    backend = Backend(BackendDefinition("left", "", 3), server, settings)
    async with MemoryBus() as bus:

        def announcer(of_store=store, worker="host:1", backends=(backend,)):
            return AskingAnnouncer(of_store, bus, clock, backends=Backends(backends), settings=settings, worker=worker)

        async def sees_it():
            return (await fleet.current(fresh=True)).live_models()

        fleet, parts = (
            Fleet(store, clock),
            {"clock": clock, "server": server, "circuit": backend.circuit, "bus": bus, "settings": settings},
        )
        yield SimpleNamespace(**parts, new=announcer, fleet=fleet, sees_it=sees_it)


async def heartbeat(store):
    (entry,) = await store.list_entries(HEARTBEATS)
    return entry


async def test_a_heartbeat_names_the_catalogue_of_its_generator(store, made):
    announcer = made.new()
    await announcer.beat()
    assert "catalogue" not in (await heartbeat(store)).data, "the back end was not asked yet"
    await announcer.update_catalogue()
    await announcer.beat()

    (catalogue,) = await store.list_entries(CATALOGUES)
    entry = await heartbeat(store)
    assert entry.key.startswith("host:1:")
    assert (entry.revision, entry.data["catalogue"], entry.data["pool"]) == (2, catalogue.key, "gpu")
    assert (entry.data["concurrency"], entry.data["backends"]) == (3, [BACKEND | {"dialect": "fake"}])
    view = await made.fleet.current()
    assert (view.live_models(), view.pool_of("sdxl"), view.concurrency("gpu")) == ({"sdxl"}, "gpu", 3)


async def test_two_back_ends_are_announced_together(store, made):
    """The models of both; of a model that both have, what each of them can paint. One that is silent hides nothing."""
    servers = [AnnouncedServer(), AnnouncedServer(), AnnouncedServer()]
    servers[0].more = {"sdxl": {"samplers": ("Euler", "Heun"), "max_width": 2048}}
    servers[1].models = ["flux", "sdxl"]
    servers[1].more = {"sdxl": {"samplers": ("Heun", "LCM"), "max_width": 1024}}
    servers[2].error = Unreachable("no connection")
    names = ("left", "right", "silent")
    backends = [
        Backend(BackendDefinition(name, f"http://user:secret@{name}", number), server, made.settings)
        for number, (name, server) in enumerate(zip(names, servers, strict=True), 1)
    ]
    announcer = made.new(backends=backends)
    await announcer.update_catalogue()
    await announcer.beat()
    view = await made.fleet.current(fresh=True)

    assert view.live_models() == {"sdxl", "flux"}
    sdxl = view.find("sdxl").model
    assert (sdxl.samplers, sdxl.max_width) == (("Heun",), 1024)
    data = (await heartbeat(store)).data
    found = {each["name"]: each["concurrency"] for each in data["backends"]}
    assert found == {"left": 1, "right": 2, "silent": 3}
    assert (data["concurrency"], "secret" in str(data)) == (6, False)


async def test_an_open_circuit_is_announced(store, made):
    made.circuit.record_failure(Unreachable("no connection"))
    await made.new().beat()

    assert (await heartbeat(store)).data["backends"] == [BACKEND | {"circuit": "open"}]


async def test_entries_that_are_gone_are_inserted_again(store, made):
    announcer = made.new()
    await announcer.update_catalogue()
    for _ in range(3):
        await announcer.beat()
    for kind in (HEARTBEATS, CATALOGUES):
        (entry,) = await store.list_entries(kind)
        await store.remove_entry(kind, entry.key)

    await announcer.update_catalogue()
    await announcer.beat()

    assert [(await store.list_entries(kind))[0].revision for kind in (HEARTBEATS, CATALOGUES)] == [1, 1]
    await announcer.beat()
    assert (await heartbeat(store)).revision == 2


async def test_a_catalogue_is_written_once_and_renewed_hourly(store, made):
    first, second = made.new(), made.new(worker="host:2")
    for announcer in (first, second, first, second):
        await announcer.update_catalogue()
    (before,) = await store.list_entries(CATALOGUES)
    made.clock.advance(HOUR)
    await first.update_catalogue()
    (after,) = await store.list_entries(CATALOGUES)

    assert (before.key, before.revision + 1) == (after.key, after.revision)
    assert (after.expires_at - made.clock.now()).total_seconds() == 24 * HOUR


async def test_a_server_that_is_down_keeps_its_models(store, made):
    announcer = made.new()
    await announcer.update_catalogue()
    made.server.error = Transient("busy")
    made.clock.advance(HOUR)
    await announcer.update_catalogue()
    await announcer.beat()

    assert (await made.fleet.current()).is_live("sdxl")


async def test_a_changed_server_keeps_the_models_of_before_known(store, made):
    announcer = made.new()
    await announcer.update_catalogue()
    made.server.models = ["flux"]
    await announcer.update_catalogue()
    await announcer.beat()

    view = await made.fleet.current()

    assert (view.live_models(), view.find("sdxl").is_live) == ({"flux"}, False)


async def test_a_server_that_always_changes_does_not_fill_the_store(store, made):
    announcer = made.new()
    for number in range(MAX_CATALOGUES + 5):
        made.server.notice = f"up for {number} minutes"
        await announcer.update_catalogue()

    assert len(await store.list_entries(CATALOGUES)) == MAX_CATALOGUES


async def test_the_start_and_each_new_catalogue_reconcile(made):
    """Images may wait for a generator with their model."""
    announcer = made.new()

    async def ticks():
        await announcer.update_catalogue()
        await announcer.beat()
        return await made.bus.waiting(WorkQueue.RECONCILE)

    assert [await ticks(), await ticks()] == [1, 1]
    made.server.models.append("flux")
    assert [await ticks(), await ticks()] == [2, 2]


async def test_a_stopping_generator_removes_its_heartbeat(store, made):
    stopping = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(made.new().run(stopping))
        await until(made.sees_it)
        stopping.set()

    assert await store.list_entries(HEARTBEATS) == []
    assert not (await made.fleet.current(fresh=True)).is_live("sdxl")


class AwayStore:
    """The store, which fails until a test says otherwise."""

    def __init__(self, store) -> None:
        self._store = store
        self.failures = asyncio.Event()
        self.error: Exception | None = Unavailable("store", "away")

    def __getattr__(self, name):
        async def fail(*_args):
            self.failures.set()
            raise self.error or AssertionError("the store is back")

        return fail if self.error is not None else getattr(self._store, name)


@pytest.mark.parametrize("error", [Unavailable("store", "away"), ZeroDivisionError()])
async def test_a_store_that_is_away_stops_no_generator(store, made, error):
    away, stopping = AwayStore(store), asyncio.Event()
    away.error = error
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(made.new(away).run(stopping))
        await away.failures.wait()
        away.error = None
        await until(made.sees_it)
        stopping.set()
