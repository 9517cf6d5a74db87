"""Orders of two pools, one of which has no generator for a while."""

from datetime import timedelta

import pytest

from common.application.fleet.reader import Fleet
from common.application.intake import Intake
from common.application.quota_store import QuotaStore
from common.bus.memory import MemoryBus
from common.bus.port import WorkQueue
from common.domain.errors import LimitReached
from common.domain.images import Status
from common.domain.turns import Line
from common.runtime.clock import ManualClock
from common.store.sqlite import SqliteStore
from tests.announcing import FakeGenerator
from tests.making import NOON, a_batch, an_image, an_outbox

SECOND = timedelta(seconds=1)


class OrdersOfPools:
    """Two generators of the pools `default` (model sdxl) and `flux`, the second of which is not there yet."""

    def __init__(self, store, bus, clock):
        self.store, self.bus, self.clock = store, bus, clock
        self.fleet = Fleet(store, clock)
        self.outbox = an_outbox(bus, store, clock, slots=2, fleet=self.fleet)
        self.default = FakeGenerator(store, clock, "a")
        self.flux = FakeGenerator(store, clock, "b", pool="flux")

    def intake(self, *, slots=2, places=20):
        quota = QuotaStore(kind="quota", limit=0, store=self.store, clock=self.clock)
        return Intake(quota, self.store, Line(slots, places, "w"), self.fleet)

    async def order(self, model, *, may_wait=True, image=None, **limits):
        self.clock.advance(0.01)
        fields = {"created_at": self.clock.now(), "model": model}
        image = image.model_copy(update=fields) if image else an_image(**fields)
        recorded, _ = await self.intake(**limits).record(image, quota_key="local", may_wait=may_wait)
        await self.outbox.begin(recorded)
        return recorded.id

    async def is_waiting(self, *ids):
        return [(await self.store.get(image_id)).is_waiting for image_id in ids]

    async def commands(self):
        return [await self.bus.waiting(WorkQueue.GENERATE, pool=pool) for pool in ("default", "flux")]


@pytest.fixture
async def world(tmp_path):
    clock = ManualClock()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store, MemoryBus(clock=clock) as bus:
        made = OrdersOfPools(store, bus, clock)
        await made.default.offer("sdxl")
        await made.flux.offer("flux")
        yield made


async def test_a_command_goes_to_the_pool_of_its_model(world):
    for model, pool in (("sdxl", None), ("flux", "flux")):
        image = await world.store.get(await world.order(model))
        assert (image.pool, image.sent_at, image.is_waiting) == (pool, world.clock.now(), False)

    assert await world.commands() == [1, 1]


async def test_an_image_without_a_generator_holds_back_no_other(world):
    """It is first in line; with its generator it has its turn before a later one of the other pool."""
    await world.flux.stop()
    await world.fleet.current(fresh=True)
    first = await world.order("flux")
    ids = [await world.order("sdxl") for _ in range(3)]

    assert await world.is_waiting(first, *ids) == [True, False, False, True]
    assert await world.commands() == [2, 0]
    await world.flux.beat()
    world.clock.advance(3)
    cancelled = (await world.store.get(ids[0])).model_copy(update={"status": Status.CANCELLED, "slot": None})
    assert await world.store.replace(cancelled.model_copy(update={"revision": cancelled.revision + 1}))
    assert await world.outbox.dispatch_waiting("local") == 1
    assert await world.is_waiting(first, ids[2]) == [False, True]
    assert await world.commands() == [2, 1]


async def test_a_request_that_may_not_wait_waits_for_a_generator(world):
    """Not for its turn: with a generator, it is refused as long as no slot is free."""
    await world.flux.stop()
    await world.fleet.current(fresh=True)
    assert await world.is_waiting(await world.order("flux", may_wait=False)) == [True]
    for _ in range(2):
        await world.order("sdxl", may_wait=False)
    with pytest.raises(LimitReached, match="2 images") as refused:
        await world.order("sdxl", may_wait=False)
    assert refused.value.code == "concurrent_limit"


async def test_a_generator_that_has_just_come_is_seen(world):
    """The view is two seconds old at most, but no image waits for a generator that is there already."""
    await world.flux.stop()
    await world.fleet.current(fresh=True)
    await world.flux.beat()

    assert await world.is_waiting(await world.order("flux")) == [False]


async def test_a_full_line_and_no_line(world):
    await world.flux.stop()
    await world.fleet.current(fresh=True)
    await world.order("flux", places=1)
    with pytest.raises(LimitReached) as refused:
        await world.order("flux", places=1)
    assert refused.value.code == "waiting_limit"
    # where nothing may wait in line, it waits in the queue of its pool, with a slot
    image = await world.store.get(await world.order("flux", places=None))
    assert (image.is_waiting, image.slot, image.pool) == (False, "local:0", "flux")
    unlimited = [await world.order("flux", slots=0, places=0), await world.order("sdxl", slots=0)]
    assert await world.is_waiting(*unlimited) == [True, False]


async def test_a_batch_without_a_generator_waits_as_a_whole(world):
    await world.flux.stop()
    await world.fleet.current(fresh=True)
    await world.order("flux", image=a_batch(3))

    assert len(await world.store.waiting_line("local", limit=9)) == 3
    assert await world.commands() == [0, 0]


async def test_a_moved_model_is_sent_to_its_new_pool(world):
    """One of its images was sent and one waits; the sent one is retried, by whoever does it."""
    sent, *_, waiting = [await world.order("flux") for _ in range(3)]
    await world.flux.stop()
    await world.default.offer("sdxl", "flux")
    world.clock.advance(3)

    await world.outbox.dispatch(await world.store.get(sent), delay_s=1)
    assert (await world.store.get(sent)).pool is None
    ended = (await world.store.get(sent)).model_copy(update={"status": Status.CANCELLED, "slot": None})
    assert await world.store.replace(ended.model_copy(update={"revision": ended.revision + 1}))
    await world.outbox.dispatch_waiting("local")
    assert (await world.store.get(waiting)).pool is None
    assert await world.commands() == [2, 2]


async def test_without_any_announcement_all_go_to_the_default(tmp_path):
    """Generators of version 0.2 announce nothing."""
    clock = ManualClock()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store, MemoryBus(clock=clock) as bus:
        world = OrdersOfPools(store, bus, clock)
        await store.insert(an_image(created_at=NOON - SECOND, waiting_since=NOON, model="x"))
        await world.order("y")

        assert await world.commands() == [2, 0]
