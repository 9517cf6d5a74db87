"""A process that dies at any write loses nothing."""

import asyncio
from typing import Any

import pytest

from common.application.webhooks.deliveries import DUE, Deliveries, DeliveryState
from tests.making import an_event_factory, an_image, an_outbox
from tests.unit.webhooks.support import delivering, receiving, status
from tests.waiting import until

LIFE = ("image.started", "image.completed")
WRITES = {"put_entry", "remove_entry"}


class DyingStore:
    """The store of a process that dies at one of its writes, before or after the store has done it."""

    def __init__(self, store, *, at, after):
        self.store = store
        self.left = at
        self.after = after
        self.died = asyncio.Event()

    def __getattr__(self, name):
        method = getattr(self.store, name)
        if name not in WRITES:
            return method

        async def write(*arguments):
            if self.died.is_set():
                await asyncio.Event().wait()  # a dead process does nothing more
            self.left -= 1
            if self.left > 0:
                return await method(*arguments)
            if self.after:
                await method(*arguments)
            self.died.set()
            return await asyncio.Event().wait()

        return write


async def record_life(store, clock, image):
    events: Any = an_event_factory(clock)
    for revision, event_type in enumerate(LIFE, 2):
        await Deliveries(store, clock).record(
            image, events.changed(image.model_copy(update={"revision": revision}), event_type)
        )


async def either(task, event):
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    for each in (task, waiting):
        each.cancel()
    await asyncio.gather(task, waiting, return_exceptions=True)


async def delivered_to(receiver, deliveries, image, courier, clock):
    """Let time pass until the whole life of the image is delivered."""

    async def is_done():
        clock.advance(10)
        courier.wake()
        return [each.state for each in await deliveries.of_image(image.id)] == [DeliveryState.DELIVERED] * 2

    await until(is_done, pause_s=0.03)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 5))
async def test_a_publisher_that_dies_loses_no_delivery(store, clock, deliveries, at, after):
    """Its event is still pending on the record, so the janitor records the delivery again."""
    async with receiving() as receiver:
        image = an_image(created_at=clock.now(), webhook=receiver.url())
        dying = DyingStore(store, at=at, after=after)
        await either(asyncio.create_task(record_life(dying, clock, image)), dying.died)
        assert dying.died.is_set()
        await record_life(store, clock, image)
        async with delivering(store, clock) as courier:
            await delivered_to(receiver, deliveries, image, courier, clock)

    assert receiver.ids == [f"{image.id}.2", f"{image.id}.3"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 9))
async def test_a_courier_that_dies_loses_no_delivery(store, clock, deliveries, at, after):
    async with receiving(status(500), status(204)) as receiver:
        image = an_image(created_at=clock.now(), webhook=receiver.url())
        await record_life(store, clock, image)
        dying = DyingStore(store, at=at, after=after)

        async def deliver():
            async with delivering(dying, clock, GRACE_PERIOD="1ms") as courier:
                await delivered_to(receiver, deliveries, image, courier, clock)

        await either(asyncio.create_task(deliver()), dying.died)
        assert dying.died.is_set()
        async with delivering(store, clock) as courier:
            await delivered_to(receiver, deliveries, image, courier, clock)

    first_seen = list(dict.fromkeys(receiver.ids))
    assert first_seen == [f"{image.id}.2", f"{image.id}.3"]
    clock.advance(300)
    async with delivering(store, clock) as courier:
        await until(lambda: _is_empty(store, courier), pause_s=0.01)


async def _is_empty(store, courier):
    """A place that no delivery names any more is removed when it is found."""
    courier.wake()
    return await store.list_entries(DUE) == []


async def test_the_outbox_records_before_it_publishes(store, clock):
    """A bus that refuses: the delivery is on record, and is so once when the event is published again."""

    class Refusing:
        async def publish(self, _event):
            raise ConnectionError

    image = an_image(created_at=clock.now(), webhook="https://example.org/")
    outbox = an_outbox(Refusing(), store, clock)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await outbox.publish_started(image)

    assert [each.type for each in await outbox_log(store, clock, image)] == ["image.started"]
    with pytest.raises(ConnectionError):
        await outbox.publish_deleted(image)
    assert await outbox_log(store, clock, image) == []
    assert await store.list_entries(DUE) == []


async def outbox_log(store, clock, image):
    return await Deliveries(store, clock).of_image(image.id)
