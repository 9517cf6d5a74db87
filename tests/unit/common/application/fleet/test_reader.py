"""The reader of announcements: which generators are alive, by its own clock."""

import asyncio

import pytest

from common.application.capabilities import Feature, Model
from common.application.fleet.announcements import CATALOGUES, HEARTBEATS
from common.application.fleet.reader import Fleet
from common.domain.errors import Unavailable
from common.runtime.clock import ManualClock
from common.store.port import Entry
from common.store.sqlite import SqliteStore
from tests.announcing import FakeGenerator

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def fleet(store, clock):
    return Fleet(store, clock)


def names(view):
    return [offered.model.id for offered in view.catalogue().models]


async def after(fleet, clock, seconds):
    """The view when this time has passed, read every few seconds as a service does."""
    while seconds > 0:
        clock.advance(min(seconds, 5.0))
        seconds -= 5.0
        view = await fleet.current()
    return view


async def test_nothing_is_known_before_any_catalogue(fleet):
    view = await fleet.current()

    assert not view.is_known
    assert view.is_live("anything"), "generators of an older release announce nothing"
    assert (view.find("anything"), view.pool_of("anything"), view.concurrency("default")) == (None, "default", 0)


async def test_a_generator_is_alive_while_its_heartbeat_changes(store, clock, fleet):
    generator = await FakeGenerator(store, clock).offer("sdxl")
    assert (await fleet.current()).live_models() == {"sdxl"}

    for _ in range(20):
        view = await after(fleet, clock, 15)
        assert view.is_live("sdxl")
        await generator.beat()
    assert (await after(fleet, clock, 60)).is_live("sdxl"), "its last beat was read 5 s later"

    view = await after(fleet, clock, 6)
    assert not view.is_live("sdxl")
    assert (names(view), view.pool_of("sdxl"), view.concurrency("default")) == (["sdxl"], "default", 0)


@pytest.mark.parametrize("wrong_s", [-400 * DAY, -HOUR, HOUR, 400 * DAY])
async def test_the_clock_of_a_generator_does_not_matter(store, clock, fleet, wrong_s):
    elsewhere = ManualClock()
    elsewhere.step(wrong_s)
    generator = await FakeGenerator(store, elsewhere).offer("sdxl")

    assert (await fleet.current()).is_live("sdxl")
    view = await after(fleet, clock, 61)
    assert (names(view), view.is_live("sdxl")) == (["sdxl"], False)
    await generator.beat()
    assert (await after(fleet, clock, 5)).is_live("sdxl")


async def test_a_janitor_with_another_clock_removes_no_heartbeat(store, clock, fleet):
    """The generator's clock is 12 hours behind that of the janitor, which removes what has expired."""
    elsewhere = ManualClock()
    elsewhere.step(-12 * HOUR)
    await FakeGenerator(store, elsewhere).offer("sdxl")

    await store.remove_expired_entries(clock.now())

    assert (await fleet.current()).is_live("sdxl")


async def test_a_step_of_the_readers_wall_clock_does_not_matter(store, clock, fleet):
    await FakeGenerator(store, clock).offer("sdxl")
    await fleet.current()

    clock.step(30 * DAY)
    assert (await after(fleet, clock, 5)).is_live("sdxl")


async def test_a_reader_that_starts_believes_an_entry_for_a_minute(store, clock):
    """A heartbeat has not changed for a day; only a reader that was there knows."""
    await FakeGenerator(store, clock).offer("sdxl")
    clock.advance(DAY)
    late = Fleet(store, clock)

    assert (await late.current()).is_live("sdxl")
    assert not (await after(late, clock, 61)).is_live("sdxl")


async def test_a_stopped_generator_is_gone_at_once(store, clock, fleet):
    generator = await FakeGenerator(store, clock).offer("sdxl")
    await fleet.current()
    await generator.stop()

    view = await after(fleet, clock, 5)

    assert (names(view), view.is_live("sdxl")) == (["sdxl"], False)


async def test_a_heartbeat_inserted_again_is_a_sign_of_life(store, clock, fleet):
    """An operator, or a janitor with a wrong clock, removes the entry again and again."""
    generator = await FakeGenerator(store, clock).offer("sdxl")
    for _ in range(10):
        await after(fleet, clock, 15)
        await store.remove_entry(HEARTBEATS, "a")
        await generator.beat()
        assert (await store.get_entry(HEARTBEATS, "a")).revision == 1
        assert (await after(fleet, clock, 5)).is_live("sdxl")


async def test_models_without_a_generator_are_known_for_a_day(store, clock, fleet):
    generator = await FakeGenerator(store, clock).offer("sdxl")
    await fleet.current()
    await generator.stop()

    assert names(await after(fleet, clock, DAY - 60)) == ["sdxl"]
    view = await after(fleet, clock, 120)

    assert (names(view), view.is_known) == ([], False)


async def test_a_catalogue_that_a_live_generator_names_stays(store, clock, fleet):
    """Its entry was removed; the generator writes it again in a while."""
    generator = await FakeGenerator(store, clock).offer("sdxl")
    await fleet.current()
    await store.remove_entry(CATALOGUES, generator.key)

    for _ in range(5):
        await generator.beat()
        assert (await after(fleet, clock, 15)).is_live("sdxl")


async def test_the_union_holds_live_models_first(store, clock, fleet):
    old = await FakeGenerator(store, clock, "old").offer("a model of yesterday", "shared")
    await fleet.current()
    await old.stop()
    await FakeGenerator(store, clock, "new", pool="flux", concurrency=3).offer("flux", "shared")

    view = await after(fleet, clock, 5)

    assert names(view) == ["flux", "shared", "a model of yesterday"]
    assert view.live_models() == {"flux", "shared"}
    assert [view.pool_of(name) for name in names(view)] == ["flux", "flux", "default"]
    assert (view.pools(), view.concurrency("flux"), view.concurrency("default")) == ({"flux"}, 3, 0)
    assert view.find("typo") is None


async def test_a_back_end_that_lists_nothing_takes_what_is_unknown(store, clock, fleet):
    await FakeGenerator(store, clock, "one").offer("sdxl")
    bare = await FakeGenerator(store, clock, "two", pool="bare").offer(samplers=())

    view = await fleet.current()
    assert (names(view), view.pool_of("sdxl"), view.pool_of("anything")) == (["sdxl"], "default", "bare")
    assert view.is_live("anything")

    await bare.stop()
    view = await after(fleet, clock, 5)
    assert view.find("anything") is None, "it named no model that could stay known"


async def test_one_bare_back_end_alone_stays_known(store, clock, fleet):
    bare = await FakeGenerator(store, clock).offer(samplers=())
    await fleet.current()
    await bare.stop()

    view = await after(fleet, clock, 5)

    assert (view.find("anything").pool, view.is_live("anything")) == ("default", False)


async def test_two_generators_of_a_pool_offer_what_both_can(store, clock, fleet):
    small = Model(id="sdxl", samplers=("Euler", "LCM"), max_width=512, grid=8, hires_fix=False)
    large = Model(id="sdxl", samplers=("DDIM", "LCM"), max_width=1024, max_steps=20, grid=12)
    await FakeGenerator(store, clock, "one").offer(small)
    await FakeGenerator(store, clock, "two").offer(large)

    found = (await fleet.current()).find("sdxl").model

    assert (found.samplers, found.max_width, found.max_steps, found.grid) == (("LCM",), 512, 20, 24)
    assert (found.hires_fix, found.negative_prompt) == (False, True)


async def test_features_of_a_server_hold_for_its_models(store, clock, fleet):
    await FakeGenerator(store, clock).offer("sdxl", features=(Feature.PROGRESS, Feature.NEGATIVE_PROMPT))

    found = (await fleet.current()).find("sdxl").model

    assert (found.hires_fix, found.negative_prompt, found.samplers) == (False, True, ("Euler",))


ODD = [
    {},
    {"pool": 3},
    {"pool": "A B", "concurrency": 1, "version": "1"},
    {"pool": "a", "concurrency": 1, "version": "1", "catalogue": ["odd"]},
    {"pool": "a", "models": [3], "samplers": 1},
    {"pool": "a", "models": [{"id": "a", "samplers": 7}], "samplers": []},
]


@pytest.mark.parametrize("data", ODD)
async def test_an_entry_that_cannot_be_read_is_left_out(store, clock, fleet, data):
    await store.put_entry(Entry(HEARTBEATS, "odd", 1, data))
    await store.put_entry(Entry(CATALOGUES, "odd", 1, data))
    await FakeGenerator(store, clock).offer("sdxl")

    assert (await fleet.current()).live_models() == {"sdxl"}


class FallibleStore(SqliteStore):
    """Counts reads of announcements; unavailable if a test says so."""

    reads = 0
    is_away = False

    async def list_entries(self, kind):
        self.reads += 1
        if self.is_away:
            raise Unavailable("store", "as the test wants it")
        return await super().list_entries(kind)


@pytest.fixture
async def counting(tmp_path):
    async with FallibleStore.open(tmp_path / "counting.db", timeout_s=5) as store:
        yield store


async def test_all_callers_share_one_read(counting, clock):
    fleet = Fleet(counting, clock)
    views = await asyncio.gather(*(fleet.current() for _ in range(100)))

    assert len({id(view) for view in views}) == 1
    assert counting.reads == 2, "heartbeats and catalogues"


async def test_an_unchanged_fleet_costs_one_small_read(counting, clock):
    generator = await FakeGenerator(counting, clock).offer("sdxl")
    fleet = Fleet(counting, clock)
    first = await fleet.current()
    before = counting.reads
    for _ in range(4):
        clock.advance(5)
        await generator.beat()
        assert await fleet.current() is first

    assert counting.reads - before == 4


async def test_the_time_without_a_store_counts_against_nobody(counting, clock):
    """The store is away for an hour; a generator cannot beat then, and its next beat may be a while off."""
    fleet = Fleet(counting, clock)
    generator = await FakeGenerator(counting, clock).offer("sdxl")
    await fleet.current()

    counting.is_away = True
    assert (await after(fleet, clock, HOUR)).is_live("sdxl"), "the last view counts"
    counting.is_away = False
    assert (await after(fleet, clock, 14)).is_live("sdxl")
    await generator.beat()
    assert (await after(fleet, clock, 50)).is_live("sdxl")
    assert not (await after(fleet, clock, 60)).is_live("sdxl")


async def test_a_store_that_never_answered_is_an_error(counting, clock):
    fleet = Fleet(counting, clock)
    counting.is_away = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await fleet.current()

    counting.is_away = False
    clock.advance(3)
    assert not (await fleet.current()).is_known
