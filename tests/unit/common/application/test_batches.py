"""The images of one request for several, whatever dies between two writes."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.application.batches import Batches
from common.application.intake import Intake
from common.application.quota_store import QuotaStore
from common.bus.memory import MemoryBus
from common.bus.port import WorkQueue
from common.domain import transitions
from common.domain.batches import batch_ids, missing_members
from common.domain.images import Lease, Status
from common.domain.turns import Line
from common.store.port import change
from tests.making import NOON, a_batch, an_image, an_outbox

SLOTS = 2
WRITES = {"insert", "replace", "put_entry"}


class Died(BaseException):
    """The process ends: no handler runs."""


class MortalStore:
    """The store as one process uses it, which dies before or after a write."""

    def __init__(self, store, *, lives, is_written):
        self._store = store
        self._lives = lives
        self._is_written = is_written

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name not in WRITES:
            return method

        async def write(*arguments):
            self._lives -= 1
            if self._lives < 0 and not self._is_written:
                raise Died
            result = await method(*arguments)
            if self._lives < 0:
                raise Died
            return result

        return write


@dataclass
class BatchProcess:
    """What each service does with a batch."""

    store: Any
    bus: MemoryBus
    clock: Any

    def __post_init__(self):
        quota = QuotaStore(kind="quota", limit=20, store=self.store, clock=self.clock)
        self.intake = Intake(quota, self.store, Line(SLOTS, 20, "w"))
        self.outbox = an_outbox(self.bus, self.store, self.clock, slots=SLOTS)
        self.batches = Batches(self.store, self.outbox, self.intake.record_other)

    async def order(self, batch):
        first = await self.store.get(batch.id)
        if first is None:
            first, _ = await self.intake.record(batch, quota_key=batch.owner)
        await self.batches.begin(first)

    async def reconcile(self, batch):
        for first in await self.store.incomplete_batches(due_before=self.clock.now(), limit=100):
            await self.batches.begin(first)
        await self.outbox.dispatch_waiting(batch.owner)

    async def delete_first(self, batch):
        if await self.store.get(batch.id) is not None:
            deleted = await change(self.store, batch.id, lambda image: transitions.delete(image, now=NOON))
            await self.batches.complete(deleted)
            await change(self.store, batch.id, lambda image: transitions.tombstone(image, now=NOON))


@pytest.fixture
async def bus(clock):
    async with MemoryBus(name="test", clock=clock, log_size=10_000, retry_delays=(1,)) as bus:
        yield bus


LIVES = st.tuples(st.sampled_from(["order", "order", "reconcile", "delete_first"]), st.integers(0, 30), st.booleans())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(2, 10), lives=st.lists(LIVES, max_size=5))
async def test_a_batch_is_complete_wherever_processes_die(store, bus, clock, count, lives):
    """Requests, repeats, janitors and deletes die at any write; one last request and janitor live."""
    clock.advance(1)
    batch = a_batch(count, created_at=clock.now(), idempotency=f"key-{clock.now()}", owner=f"ada-{clock.now()}")
    for what, writes, is_written in lives:
        mortal = BatchProcess(MortalStore(store, lives=writes, is_written=is_written), bus, clock)
        try:
            await getattr(mortal, what)(batch)
        except Died:
            continue
    clock.advance(1)
    living = BatchProcess(store, bus, clock)

    await living.order(batch)
    await living.reconcile(batch)

    members = await store.batch_members(batch.id)
    assert [image.id for image in members] == batch_ids(batch)
    assert [image.parameters.seed for image in members] == [7 + index for index in range(count)]
    assert [image.batch.index for image in members] == list(range(count))
    assert await store.incomplete_batches(due_before=clock.now(), limit=10) == []
    waiting = [image for image in members if image.is_waiting]
    dispatched = [image for image in members if image.status is Status.QUEUED and not image.is_waiting]
    assert len(dispatched) == min(SLOTS, len(dispatched) + len(waiting))
    assert len((await living.intake.quota.usage(batch.owner)).ids) == count


async def test_members_that_were_removed_do_not_come_back(store, bus, clock):
    process = BatchProcess(store, bus, clock)
    batch = a_batch(3, idempotency="k")
    await process.order(batch)
    last = (await store.batch_members(batch.id))[-1]
    await store.remove(last)

    await process.order(batch)
    await process.reconcile(batch)

    assert [image.id for image in await store.batch_members(batch.id)] == batch_ids(batch)[:2]


async def test_a_change_of_all_takes_the_last_in_line_first(store, bus, clock):
    """One image is painted, one is sent, two wait, one has ended: each changes once, in an order that starts none."""
    process = BatchProcess(store, bus, clock)
    batch = a_batch(5)
    await process.order(batch)
    ids = batch_ids(batch)
    lease = Lease(token="t", worker="w", until=NOON)
    await change(store, ids[0], lambda image: transitions.claim(image, lease=lease, now=NOON, deadline=NOON - NOON))
    await change(store, ids[2], lambda image: transitions.cancel(image, now=NOON))

    changed = await process.batches.change(
        await store.get(ids[4]), lambda image: transitions.cancel(image, now=clock.now())
    )

    assert [image.id for image in changed] == [ids[4], ids[3], ids[1], ids[0]]
    assert {image.status for image in await store.batch_members(batch.id)} == {Status.CANCELLED}
    assert await process.batches.change(changed[0], lambda image: transitions.cancel(image, now=NOON)) == []


async def test_a_repeat_of_a_painted_image_announces_nothing(store, bus, clock, monkeypatch):
    published, publish = [], bus.publish

    async def watched(event):
        published.append(event.type)
        await publish(event)

    monkeypatch.setattr(bus, "publish", watched)
    process, image = BatchProcess(store, bus, clock), an_image()
    await process.order(image)
    before = await bus.waiting(WorkQueue.GENERATE)
    claim = partial(transitions.claim, lease=Lease(token="t", worker="w", until=NOON), now=NOON, deadline=NOON - NOON)
    await change(store, image.id, claim)

    await process.order(image)
    cancelled = await change(store, image.id, partial(transitions.cancel, now=NOON))
    await process.outbox.publish_pending(cancelled)
    await process.order(image)

    assert published == ["image.queued", "image.cancelled"]
    assert await bus.waiting(WorkQueue.GENERATE) == before


async def test_an_image_alone_is_its_own_batch(store, bus, clock):
    process = BatchProcess(store, bus, clock)
    image = an_image()
    await process.order(image)

    [member] = await process.batches.members(await store.get(image.id))
    [cancelled] = await process.batches.change(member, lambda each: transitions.cancel(each, now=NOON))

    assert (member.id, cancelled.status, missing_members(member)) == (image.id, Status.CANCELLED, [])
