"""Images that ask for a slot of several back ends."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.application.capabilities import Capabilities, Feature, Model
from common.domain.errors import Denied, Transient, Unreachable
from common.runtime.reading_settings import read_settings
from services.generator.backends.backend import Backend
from services.generator.backends.backends import Backends, NoPlace
from services.generator.backends.choice import Needs, able
from services.generator.backends.definition import BackendDefinition

SETTINGS = read_settings({})
NEVER_S = 1000.0


class AnsweringServer:
    """What a back end's server answers."""

    def __init__(self, *models: str, features: tuple[Feature, ...] = (), concurrency: int | None = None) -> None:
        self.error: Exception | None = None
        self.offered = Capabilities(
            models=tuple(Model(id=name) for name in models), features=features, concurrency=concurrency
        )

    async def capabilities(self, *, fresh=False) -> Capabilities:
        if self.error is not None:
            raise self.error
        return self.offered

    async def generate(self, job, on_progress, on_preview=None):
        raise NotImplementedError

    async def stop(self, job) -> None:
        raise NotImplementedError


class SwitchedBackend(Backend):
    """A back end whose circuit a test switches."""

    switched_open = False

    @property
    def is_open(self) -> bool:
        return self.switched_open


async def several(*servers, concurrency=1, hold_s=NEVER_S):
    """Back ends `0`, `1` … that have been asked once."""
    found = [
        SwitchedBackend(BackendDefinition(str(number), "", concurrency), server, SETTINGS)
        for number, server in enumerate(servers)
    ]
    for backend in found:
        await backend.refresh(opens_circuit=True)
    return Backends(found, hold_s=hold_s)


def needs(model: str = "a", first: str | None = None) -> Needs:
    return Needs(model, "Euler", first)


@dataclass
class Asking:
    """An image that asks for a slot, and holds it until `end`."""

    needs: Needs
    place: Any = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: Any = None

    @classmethod
    def of(cls, backends: Backends, needs: Needs) -> "Asking":
        asking = cls(needs)
        asking.task = asyncio.create_task(asking.run(backends))
        return asking

    async def run(self, backends: Backends) -> None:
        async with backends.place(self.needs) as self.place:
            if isinstance(self.place, Backend):
                await self.ended.wait()

    @property
    def is_waiting(self) -> bool:
        return self.place is None and not self.task.done()

    @property
    def holds(self) -> Backend | None:
        return self.place if isinstance(self.place, Backend) and not self.task.done() else None


async def let_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.sampled_from("abc"), st.sampled_from([None, "0", "1", "2", "gone"])),
        st.tuples(st.just("end"), st.integers(0, 20), st.none()),
        st.tuples(st.just("cancel"), st.integers(0, 20), st.none()),
        st.tuples(st.just("switch"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("models"), st.integers(0, 2), st.sampled_from(["", "a", "ab", "bc", "abc"])),
    ),
    max_size=25,
)
_FEATURES = (Feature.ADOPTION,)


async def _play(steps, concurrency):
    servers = [
        AnsweringServer("a", "b", features=_FEATURES),
        AnsweringServer("b", "c"),
        AnsweringServer("a", features=_FEATURES),
    ]
    backends = await several(*servers, concurrency=concurrency)
    asked: list[Asking] = []
    for what, first, second in steps:
        waited = [each for each in asked if each.is_waiting]
        match what:
            case "order":
                asked.append(Asking.of(backends, needs(first, second)))
            case "end" if asked:
                asked[first % len(asked)].ended.set()
            case "cancel" if asked:
                asked[first % len(asked)].task.cancel()
            case "switch":
                backends.all[first].switched_open = second
                backends.assign()
            case "models":
                servers[first].offered = AnsweringServer(*second, features=_FEATURES).offered
                await backends.all[first].refresh(opens_circuit=False)
        await let_run()
        _require_sound(backends, asked, waited)
    for each in asked:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in asked), return_exceptions=True)
    assert [backend.jobs for backend in backends.all] == [0, 0, 0]


def _require_sound(backends, asked, waited):
    for backend in backends.all:
        assert backend.jobs == sum(each.holds is backend for each in asked) <= backend.concurrency
    waiting = [each for each in asked if each.is_waiting]
    for each in waiting:
        candidates = able(each.needs, backends.all)
        assert candidates, "nobody can take it, so it must not wait here"
        assert all(backend.jobs == backend.concurrency for backend in candidates), "a slot is idle beside it"
    for each in waited:
        if each.holds is not None:
            assert each.holds.find(each.needs.model) is not None


@settings(deadline=None, max_examples=60, derandomize=True)
@given(STEPS, st.integers(1, 2))
def test_no_slot_is_idle_and_none_is_given_twice(steps, concurrency):
    """Orders, ends, cancels, circuits and models, drawn. After each step no slot is idle beside an order for it."""
    asyncio.run(_play(steps, concurrency))


async def test_the_back_end_with_the_least_to_do_is_chosen():
    """One server paints four images at once and the other one; both may have four from this generator."""
    backends = await several(AnsweringServer("a", concurrency=1), AnsweringServer("a", concurrency=4), concurrency=4)
    asked = [Asking.of(backends, needs()) for _ in range(5)]
    await let_run()

    assert [backend.jobs for backend in backends.all] == [1, 4]
    for each in asked:
        each.ended.set()
    await asyncio.gather(*(each.task for each in asked))


async def test_the_first_one_is_asked_first_though_it_has_more_to_do():
    backends = await several(AnsweringServer("a"), AnsweringServer("a"), concurrency=2)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        places = [await enter(backends.place(needs(first="1"))) for _ in range(3)]

    assert [place.name for place in places] == ["1", "1", "0"]


async def test_a_first_one_that_adopts_is_waited_for():
    """The picture is in work there. If its circuit opens, another one paints it."""
    backends = await several(AnsweringServer("a", features=_FEATURES), AnsweringServer("a"))
    async with backends.place(needs(first="0")):
        asking = Asking.of(backends, needs(first="0"))
        await let_run()
        assert asking.is_waiting
        backends.all[0].switched_open = True
        backends.assign()
        await let_run()
        assert asking.holds.name == "1"
        asking.ended.set()
        await asking.task


async def test_nobody_waits_for_a_back_end_that_is_away():
    backends = await several(AnsweringServer("a"), AnsweringServer("b"))
    backends.all[0].switched_open = True

    async with backends.place(needs("a")) as away, backends.place(needs("c")) as unknown:
        assert (away, unknown) == (NoPlace.ABSENT, NoPlace.ABSENT)
    backends.all[1].switched_open = True
    async with backends.place(needs("a")) as place:
        assert place is NoPlace.BUSY, "the generator takes no work from now on; the order is still that of the queue"
    backends.close()
    async with backends.place(needs("a")) as place:
        assert place is NoPlace.STOPPING


async def test_a_sampler_of_one_back_end_leads_there():
    backends = await several(AnsweringServer("a"), AnsweringServer("a"))
    for backend, sampler in zip(backends.all, ("Euler", "Heun"), strict=True):
        backend.inference.offered = Capabilities(models=(Model(id="a", samplers=(sampler,)),))
        await backend.refresh(opens_circuit=False)

    async with backends.place(Needs("a", "Heun")) as heun, backends.place(Needs("a", "none of them")) as other:
        assert (heun.name, other.name) == ("1", "0")


async def test_images_for_one_back_end_do_not_keep_the_other_idle():
    """They take all places. The last of them goes back to the queue, so the next image may be for the idle one."""
    backends = await several(AnsweringServer("a"), AnsweringServer("b"), hold_s=0.01)
    assert backends.places == 3
    first, second, third = [Asking.of(backends, needs("a")) for _ in range(3)]
    async with asyncio.timeout(30):
        await third.task

    assert (first.holds.name, second.is_waiting, third.place) == ("0", True, NoPlace.BUSY)
    async with backends.place(needs("b")) as place:
        assert place.name == "1"
    first.ended.set()
    second.ended.set()
    await asyncio.gather(first.task, second.task)


@pytest.mark.parametrize(("models", "expected"), [(("ab", "ab", "ab"), 6), (("ab", "b", ""), 8)])
async def test_the_places_are_those_that_can_work(models, expected):
    """Beside the slots one more for each further back end, if their models differ; none for an open circuit."""
    backends = await several(*(AnsweringServer(*names) for names in models), concurrency=2)

    assert (backends.places, backends.slots) == (expected, 6)
    backends.all[0].switched_open = True
    assert backends.slots == 4
    for backend in backends.all:
        backend.switched_open = True
    assert (backends.places, backends.slots) == (0, 6)


@pytest.mark.parametrize(
    ("error", "is_open"), [(Unreachable("refused"), True), (Denied("401"), True), (Transient("busy"), False)]
)
async def test_one_that_is_away_at_the_start_gets_no_image(error, is_open):
    server = AnsweringServer("a")
    server.error = error
    backend = Backend(BackendDefinition("left", "", 1), server, SETTINGS)
    await backend.refresh(opens_circuit=True)

    assert (backend.is_open, backend.is_asked.is_set()) == (is_open, True)
