"""The turns of an owner over every interleaving of the processes that take part.

Admissions, workers, janitors and changes of the limit run as tasks against a store in memory. Each call of the store
waits until the test lets it happen, so hypothesis chooses the order, and where a task dies.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.application.intake import Intake
from common.application.quota_store import QuotaStore
from common.application.turns import dispatch_next
from common.bus.memory import MemoryBus
from common.domain import transitions
from common.domain.errors import Duplicate, InvalidTransition, LimitReached, NotFound
from common.domain.images import Image, Lease, Status
from common.domain.turns import Line
from common.runtime.clock import ManualClock
from common.store.port import change
from common.store.sqlite import SqliteStore
from tests.making import NOON, an_image, an_outbox

LEASE = Lease(token="t", worker="w", until=NOON)
MAX_SLOTS = 2


class SteppedStore:
    """A store of images whose calls wait to be chosen, and which checks the limit and the order at each write."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.slots = MAX_SLOTS
        self.highest = MAX_SLOTS  # the limit was never higher
        self.is_free = False  # calls do not wait any more
        self.calls: list[asyncio.Future[None]] = []
        self.inserted_at: dict[str, int] = {}  # or put back into the line
        self.ends: list[str] = []
        self.read_at: dict[asyncio.Task, int] = {}
        self.started_at: dict[asyncio.Task, int] = {}
        self.step = 0

    async def _turn(self) -> None:
        if not self.is_free:
            call = asyncio.get_running_loop().create_future()
            self.calls.append(call)
            await call
        self.step += 1

    async def insert(self, image):
        await self._turn()
        if image.id in self.images:
            raise Duplicate("id")
        self._require_free(image)
        if not image.is_waiting:
            started_at = self.started_at[asyncio.current_task()]
            assert [each.id for each in self.waiting() if self.inserted_at[each.id] <= started_at] == [], "overtaken"
        self._write(image)
        self.inserted_at[image.id] = self.step

    async def get(self, image_id):
        await self._turn()
        return self.images.get(image_id)

    async def known_ids(self, ids):
        await self._turn()
        return {image_id for image_id in ids if image_id in self.images}

    async def replace(self, image):
        await self._turn()
        before = self.images.get(image.id)
        if before is None or before.revision != image.revision - 1:
            return False
        self._require_free(image)
        if before.is_waiting and not image.is_waiting and not image.status.is_final:
            self._require_next(before)
        if image.is_waiting and not before.is_waiting:
            self.inserted_at[image.id] = self.step
        if image.status.is_final and not before.status.is_final:
            self.ends.append(image.id)
        self._write(image)
        return True

    async def next_waiting(self, owner, *, now, limit):
        await self._turn()
        self.read_at[asyncio.current_task()] = self.step
        return self.waiting()[:limit]

    async def held_slots(self, slots):
        await self._turn()
        return {image.slot for image in self.images.values() if image.slot in slots}

    async def owners_waiting(self, *, after, limit):
        await self._turn()
        return ["local"] if self.waiting() and after < "local" else []

    def waiting(self):
        return sorted((each for each in self.images.values() if each.is_waiting), key=_turn_of)

    def _require_free(self, image):
        others = (other for other in self.images.values() if other.id != image.id)
        if image.slot is not None and any(other.slot == image.slot for other in others):
            raise Duplicate("slot")

    def _require_next(self, image):
        """No image that the dispatcher could see waits before this one."""
        seen_at = self.read_at[asyncio.current_task()]
        earlier = [each for each in self.waiting() if _turn_of(each) < _turn_of(image)]
        assert [each.id for each in earlier if self.inserted_at[each.id] < seen_at] == []

    def _write(self, image):
        self.images[image.id] = image
        in_work = [each for each in self.images.values() if not each.status.is_final and not each.is_waiting]
        assert len(in_work) <= self.highest, [each.slot for each in in_work]


def _turn_of(image):
    return (image.created_at, image.id)


@dataclass
class World:
    store: Any = field(default_factory=SteppedStore)  # a part of the port
    clock: ManualClock = field(default_factory=ManualClock)
    tasks: list[asyncio.Task] = field(default_factory=list)

    def outbox(self):
        return an_outbox(MemoryBus(clock=self.clock), self.store, self.clock, slots=self.store.slots)

    def start(self, run):
        self.tasks.append(asyncio.create_task(run))
        self.store.started_at[self.tasks[-1]] = self.store.step

    async def admit(self, may_wait):
        """A request as an api or an intake takes it in."""
        self.clock.advance(0.001)
        quota = QuotaStore(kind="quota", limit=0, store=self.store, clock=self.clock)
        intake = Intake(quota, self.store, Line(self.store.slots, 3 if may_wait else 0, "w"))
        try:
            image, _ = await intake.record(
                an_image(created_at=self.clock.now()), quota_key="local", may_wait=may_wait or may_wait is None
            )
        except LimitReached:
            return
        await self.outbox().begin(image)

    async def change(self, number, *moves):
        """Apply transitions to one of the images, then publish what is pending."""
        ids = sorted(self.store.images)
        if not ids:
            return
        try:
            for move in moves:
                image = await change(self.store, ids[number % len(ids)], move)
        except (InvalidTransition, NotFound):
            return
        await self.outbox().publish_pending(image)

    def claim(self, image):
        deadline = self.clock.now() - NOON
        return transitions.claim(image, lease=LEASE, now=self.clock.now(), deadline=deadline)

    async def work(self, number, last):
        """A worker claims an image, then ends its attempt."""
        await self.change(number, self.claim, last)

    async def reconcile(self):
        for image in list(self.store.images.values()):
            if image.pending_event is not None:
                await self.outbox().publish_pending(image)
        for owner in await self.store.owners_waiting(after="", limit=10):
            await self.outbox().dispatch_waiting(owner)

    def actions(self):
        now = self.clock.now
        fail = transitions.fail_past_deadline
        return {
            "request": lambda _: self.admit(may_wait=True),
            "waiting post": lambda _: self.admit(may_wait=False),
            "order": lambda _: self.admit(may_wait=None),
            "paint": lambda n: self.work(n, lambda image: fail(image, now=now())),
            "cancel": lambda n: self.change(n, lambda image: transitions.cancel(image, now=now())),
            "give back": lambda n: self.work(
                n, lambda image: transitions.give_back(image, lease=image.lease, attempt=image.attempts, now=now())
            ),
            "line up again": lambda n: self.change(n, lambda image: transitions.set_waiting(image, now=now())),
            "pin": lambda n: self.change(n, lambda image: transitions.pin(image, pinned=not image.pinned)),
            "reconcile": lambda _: self.reconcile(),
        }


ACTIONS = [
    *("request", "waiting post", "order", "paint", "cancel", "give back", "line up again", "pin", "reconcile"),
]
LET = [st.tuples(st.just("let"), st.integers(0, 9))] * 3  # waiting calls happen
QUIET = [action for action in ACTIONS if action not in {"line up again", "reconcile"}]
DISTURBANCES = [
    st.tuples(st.just("kill"), st.integers(0, 9)),
    st.tuples(st.just("limit"), st.integers(1, MAX_SLOTS)),
]


def steps_of(actions, *others):
    # fewer steps rarely reach a state in which several tasks meet
    return st.lists(
        st.one_of(st.tuples(st.sampled_from(actions), st.integers(0, 9)), *LET, *others), min_size=40, max_size=150
    )


async def _settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def _let(store, number):
    """Let some of the waiting calls happen: of one task that goes on, or of several."""
    for _ in range(1 + number % 4):
        if store.calls:
            call = store.calls.pop(number % len(store.calls))
            if not call.done():
                call.set_result(None)
            await _settle()


async def _take(world, steps):
    store, actions = world.store, world.actions()
    for what, number in steps:
        if what in actions:
            world.start(actions[what](number))
        elif what == "let":
            await _let(store, number)
        elif what == "kill" and world.tasks:
            world.tasks[number % len(world.tasks)].cancel()
        elif what == "limit":
            store.slots = number
        await _settle()


async def _let_all_end(world):
    """Let every task run to its end."""
    store = world.store
    store.is_free = True
    for call in store.calls:
        if not call.done():
            call.set_result(None)
    outcomes = await asyncio.gather(*world.tasks, return_exceptions=True)
    assert [each for each in outcomes if isinstance(each, Exception)] == []


def _require_no_idle_slot(store):
    in_work = [each for each in store.images.values() if not each.status.is_final and not each.is_waiting]
    assert len(in_work) >= store.slots or store.waiting() == [], "an image waits while a slot is free"


async def _finish(world):
    """Let a janitor and a worker alternate until nothing is left."""
    store = world.store
    await _let_all_end(world)
    for _ in range(len(store.images) + 1):
        await world.reconcile()
        _require_no_idle_slot(store)
        for number, image_id in enumerate(sorted(store.images)):
            if not store.images[image_id].status.is_final:
                await world.work(number, lambda image: transitions.fail_past_deadline(image, now=world.clock.now()))


@pytest.mark.long
@given(steps=steps_of(ACTIONS, *DISTURBANCES))
@settings(max_examples=200, deadline=None)
def test_no_interleaving_breaks_the_limit_or_leaves_an_image(steps):
    """The limit and the order hold at each write. In the end no image waits while a slot is free; each ends once."""

    async def run():
        world = World()
        await _take(world, steps)
        await _finish(world)
        assert {each.status for each in world.store.images.values()} <= {Status.FAILED, Status.CANCELLED}
        assert sorted(world.store.ends) == sorted(world.store.images)

    asyncio.run(run())


@given(steps=steps_of(QUIET))
@settings(max_examples=100, deadline=None)
@pytest.mark.long
def test_without_faults_no_janitor_is_needed(steps):
    """Admissions and ends interleave in any way; when all have ended, no image waits while a slot is free."""

    async def run():
        world = World()
        await _take(world, steps)
        await _let_all_end(world)
        _require_no_idle_slot(world.store)

    asyncio.run(run())


class _PinnedOnce(SqliteStore):
    """Another process pins an image just before it is dispatched for the first time."""

    pinned = False

    async def replace(self, image):
        if not self.pinned:
            self.pinned = True
            await change(self, image.id, partial(transitions.pin, pinned=True))
        return await super().replace(image)


async def test_a_lost_write_does_not_change_the_order(tmp_path):
    async with _PinnedOnce.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        images = [an_image(created_at=NOON + timedelta(seconds=number), waiting_since=NOON) for number in range(3)]
        for image in images:
            await store.insert(image)

        dispatched = await dispatch_next(store, "local", slots=2, now=NOON)

    assert [(each.id, each.slot) for each in dispatched] == [(images[0].id, "local:0"), (images[1].id, "local:1")]
