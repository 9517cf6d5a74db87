"""What the outbox does when the bus takes the command but not the event, or neither."""

from functools import partial

import pytest

from common.bus.memory import MemoryBus
from common.bus.port import WorkQueue
from common.domain import transitions, turns
from common.domain.batches import batch_ids, missing_members
from common.domain.errors import NotAccepted, Unavailable, Unconfirmed
from common.runtime.clock import ManualClock
from common.store.port import change
from common.store.sqlite import SqliteStore
from tests.making import a_batch, an_image, an_outbox


class Broken(MemoryBus):
    """A bus in memory that refuses what it is told to."""

    def __init__(self, clock, *, publish: Exception | None, send: Exception | None) -> None:
        super().__init__(clock=clock)
        self._publish_error = publish
        self._send_error = send

    async def publish(self, event):
        if self._publish_error:
            raise self._publish_error
        await super().publish(event)

    async def send(self, command, **more):
        if self._send_error:
            raise self._send_error
        await super().send(command, **more)


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize("error", [None, NotAccepted("bus", "a queue is full"), NotAccepted("bus", "no right")])
async def test_the_command_does_not_depend_on_the_event(tmp_path, error):
    clock = ManualClock()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        Broken(clock, publish=error, send=None) as bus,
    ):
        image = an_image(created_at=clock.now())
        await store.insert(image)
        await an_outbox(bus, store, clock, source="api").dispatch(image)

        assert await bus.waiting(WorkQueue.GENERATE) == 1
        assert (await store.get(image.id)).sent_at == clock.now()


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize(
    ("publish", "send"),
    [
        (NotAccepted("bus", "a queue is full"), Unconfirmed("bus", "no answer")),
        (None, Unavailable("bus", "not connected")),
        (Unconfirmed("bus", "no answer"), None),  # a broker that is away is not asked twice
    ],
)
async def test_a_command_that_is_not_confirmed_is_not_noted_as_sent(tmp_path, publish, send):
    clock = ManualClock()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        Broken(clock, publish=publish, send=send) as bus,
    ):
        image = an_image(created_at=clock.now())
        await store.insert(image)
        with pytest.raises(Unavailable):
            await an_outbox(bus, store, clock, source="api").dispatch(image)

        assert (await store.get(image.id)).sent_at is None


async def begun(outbox, store, *images):
    for image in images:
        await store.insert(image)
        await outbox.begin(image)


async def test_the_end_of_an_image_is_the_turn_of_the_next(tmp_path):
    """Two images wait for the one slot; the first ends, and the second's turn comes with the delivery of its event."""
    clock = ManualClock()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store, MemoryBus(clock=clock) as bus:
        outbox = an_outbox(bus, store, clock, slots=1)
        first, second, third = (turns.waiting(an_image(created_at=clock.now()), place=None) for _ in range(3))
        await begun(outbox, store, first, second, third)
        before = list(await store.waiting_line("local", limit=5))

        ended = await change(store, first.id, partial(transitions.cancel, now=clock.now()))
        await outbox.publish_pending(ended)

        assert before == sorted([second.id, third.id])
        assert list(await store.waiting_line("local", limit=5)) == before[1:]
        assert (await store.get(before[0])).slot == "local:0"
        assert await bus.waiting(WorkQueue.GENERATE) == 2
        assert (await store.get(first.id)).pending_event is None


@pytest.mark.parametrize("slots", [0, 5])
async def test_positions_follow_the_order_of_the_turns(tmp_path, slots):
    """The images of a batch, whose ids have no order, are dispatched at the same moment."""
    clock = ManualClock()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store, MemoryBus(clock=clock) as bus:
        batch = a_batch(10, created_at=clock.now())
        for image in (batch, *missing_members(batch)):
            await store.insert(turns.waiting(image, place=None))

        dispatched = await an_outbox(bus, store, clock, slots=slots).dispatch_waiting("local")
        clock.advance(1)

        assert await store.queued_ids(clock.now(), limit=20) == batch_ids(batch)[:dispatched]


async def test_an_event_is_noted_only_after_the_turn_is_given(tmp_path):
    """The store fails between the event and the turn: the event stays pending, so the janitor repeats both."""
    clock = ManualClock()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store, MemoryBus(clock=clock) as bus:
        ended = transitions.cancel(an_image(created_at=clock.now()), now=clock.now())
        await store.insert(ended)
        outbox = an_outbox(bus, _WithoutLine(store), clock, slots=1)

        with pytest.raises(Unavailable):
            await outbox.publish_pending(ended)

        assert (await store.get(ended.id)).pending_event is not None


class _WithoutLine:
    """A store that does not answer who waits."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def next_waiting(self, _owner, *, now, limit):
        raise Unavailable("store", "no answer")


async def test_an_unlimited_owner_waits_for_nothing(tmp_path):
    """After a change of the limit to none, a long line is dispatched as a whole."""
    clock = ManualClock()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store, MemoryBus(clock=clock) as bus:
        for _ in range(205):
            await store.insert(turns.waiting(an_image(created_at=clock.now()), place=None))

        assert await an_outbox(bus, store, clock, slots=0).dispatch_waiting("local") == 205

        assert await store.owners_waiting(after="", limit=1) == []
        assert await bus.waiting(WorkQueue.GENERATE) == 205
