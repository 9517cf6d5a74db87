"""Repair of records of several pools."""

from dataclasses import replace
from datetime import timedelta

import pytest

from common.application.fleet.reader import Fleet
from common.bus.memory import MemoryBus
from common.bus.port import WorkQueue
from common.domain.errors import Unavailable
from common.messages import GenerateImage
from services.janitor.reconcile import reconcile
from tests.announcing import FakeGenerator
from tests.making import an_outbox
from tests.unit.janitor.support import NOTHING, cluster, inserted, published_events, running


class JanitorOfPools:
    """A janitor and the generators of two pools."""

    def __init__(self, context):
        self.fleet = Fleet(context.store, context.clock)
        outbox = an_outbox(context.bus, context.store, context.clock, source="janitor", slots=2, fleet=self.fleet)
        self.context = replace(context, outbox=outbox)
        self.default = FakeGenerator(context.store, context.clock, "a")
        self.flux = FakeGenerator(context.store, context.clock, "b", pool="flux")

    async def reconcile(self):
        await reconcile(NOTHING, context=self.context)

    async def get(self, image):
        return await self.context.store.get(image.id)


@pytest.fixture
async def world(tmp_path):
    async with cluster(tmp_path) as context:
        made = JanitorOfPools(context)
        await made.default.offer("sdxl")
        await made.flux.offer("flux")
        yield made


async def test_images_of_a_pool_that_is_gone_wait_again(world):
    """Queued ones wait, also for a retry, and free their slots; a running one stays; the next generator gets them."""
    context = world.context
    later = context.clock.now() + timedelta(seconds=20)
    fields = {"model": "flux", "pool": "flux", "sent_at": context.clock.now()}
    first = await inserted(context, slot="local:0", **fields)
    retried = await inserted(context, slot="local:1", attempts=1, not_before=later, **fields)
    held = await inserted(context, owner="bob", **running(context, 30, **fields))
    other = await inserted(context, owner="bob", sent_at=context.clock.now())
    await world.reconcile()
    assert not (await world.get(first)).is_waiting, "its generator lives"

    await world.flux.stop()
    await world.reconcile()

    found = await world.get(first)
    assert (found.is_waiting, found.slot, found.attempts, found.pool, found.sent_at) == (True, None, 0, None, None)
    found = await world.get(retried)
    assert (found.is_waiting, found.not_before, found.attempts) == (True, later, 1)
    assert [(await world.get(image)).is_waiting for image in (held, other)] == [False, False]
    assert ("image.queued", first.id) in await published_events(context)

    await world.flux.beat()
    await world.reconcile()
    assert ((await world.get(first)).pool, (await world.get(first)).slot) == ("flux", "local:0")
    assert (await world.get(retried)).is_waiting, "its retry is not due"
    assert await context.bus.waiting(WorkQueue.GENERATE, pool="flux") == 1


async def test_an_expired_lease_of_a_gone_pool_waits_in_the_same_run(world):
    context = world.context
    image = await inserted(context, **running(context, 30, model="flux", pool="flux"))
    await world.reconcile()
    context.clock.advance(61)
    await world.default.beat()
    await world.reconcile()

    found = await world.get(image)
    assert (found.lost, found.is_waiting, found.slot) == (1, True, None)


async def test_commands_are_overtaken_in_their_own_pool_only(world):
    """The queue of flux is long: that a later command of the default pool was started says nothing about it."""
    context = world.context
    sent_at = context.clock.now()
    waits = await inserted(context, model="flux", pool="flux", sent_at=sent_at)
    await context.bus.send(_command(waits), pool="flux")
    lost = await inserted(context, sent_at=sent_at)
    context.clock.advance(120)
    now = context.clock.now()
    await inserted(context, **running(context, 900, sent_at=now))
    for generator in (world.default, world.flux):
        await generator.beat()
    await context.bus.send(_command(lost).model_copy(update={"id": "another"}))

    await world.reconcile()

    assert [(await world.get(image)).sent_at for image in (waits, lost)] == [sent_at, now]


async def test_commands_are_counted_in_their_pool(world):
    """The broker has lost the command of flux; that of the default pool is still there."""
    context = world.context
    sent_at = context.clock.now()
    lost = await inserted(context, model="flux", pool="flux", sent_at=sent_at)
    waits = await inserted(context, sent_at=sent_at)
    await context.bus.send(_command(waits))
    context.clock.advance(30)
    await world.reconcile()

    assert await context.bus.waiting(WorkQueue.GENERATE, pool="flux") == 1
    assert [(await world.get(image)).sent_at for image in (lost, waits)] == [context.clock.now(), sent_at]


class _WithoutFlux(MemoryBus):
    """The queue of one pool cannot be used."""

    async def send(self, command, **more):
        if more.get("pool") == "flux":
            raise Unavailable("bus", "the queue has other arguments")
        await super().send(command, **more)

    async def waiting(self, queue, **more):
        if more.get("pool") == "flux":
            raise Unavailable("bus", "the queue has other arguments")
        return await super().waiting(queue, **more)


@pytest.mark.parametrize("is_sent", [False, True], ids=["never sent", "lost in the broker"])
async def test_a_pool_that_fails_is_skipped_alone(world, is_sent):
    """Many of its commands are unsent and lost, and come first."""
    context = world.context
    async with _WithoutFlux(clock=context.clock) as bus:
        outbox = an_outbox(bus, context.store, context.clock, slots=2, fleet=world.fleet)
        broken = replace(context, bus=bus, outbox=outbox)
        for number in range(60):
            more = {"sent_at": context.clock.now()} if number % 2 else {}
            await inserted(context, owner=f"o{number}", model="flux", pool="flux", **more)
        image = await inserted(context, **({"sent_at": context.clock.now()} if is_sent else {}))
        context.clock.advance(30)

        await reconcile(NOTHING, context=broken)

        assert (await world.get(image)).sent_at == context.clock.now()
        assert await bus.waiting(WorkQueue.GENERATE) == 1


def _command(image):
    return GenerateImage(id=image.id, source=image.source, owner=image.owner, subject=image.id)
