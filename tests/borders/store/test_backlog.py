"""Reconcile sends again what is lost, not what the broker still holds."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from common.bus.port import Done, WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.domain import transitions
from common.domain.images import Status, new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from common.store.port import change
from services.janitor.reconcile import reconcile
from tests.making import an_outbox
from tests.unit.janitor.support import NOTHING, cluster, inserted, running

DAY = {"GENERATION_DEADLINE": "1d"}


@asynccontextmanager
async def janitor(tmp_path, request, kind):
    """The janitor's context with a bus of this kind."""
    async with AsyncExitStack() as stack:
        context = await stack.enter_async_context(cluster(tmp_path, **DAY))
        if kind == "rabbitmq":
            settings = context.settings
            bus = await stack.enter_async_context(
                RabbitBus.open(
                    request.getfixturevalue("vhost"),
                    name="test",
                    clock=context.clock,
                    retry_delays=settings.retry_delays,
                    timeout_s=10,
                    heartbeat=10,
                    log_age_s=3600,
                    log_bytes=10_000_000,
                    log_segment=1_000_000,
                )
            )
            context = replace(context, bus=bus, outbox=an_outbox(bus, context.store, context.clock, source="janitor"))
        yield context


BOTH = pytest.mark.parametrize("kind", ["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])


async def ordered(context, count):
    made = [await inserted(context) for _ in range(count)]
    for image in made:
        await context.outbox.dispatch(image)
    return made


async def half_an_hour(context, minutes=35):
    for _ in range(minutes):
        context.clock.advance(60)
        await reconcile(NOTHING, context=context)


async def taken(context, count):
    """Take this many commands from the queue, and lose them; returns their ids."""
    seen: list[str] = []
    all_seen = asyncio.Event()

    async def take(command):
        if len(seen) == count:
            await asyncio.Event().wait()  # it goes back to the queue when the consumer ends
        seen.append(command.id)
        if len(seen) == count:
            all_seen.set()
        return Done()

    async with context.bus.consume(WorkQueue.GENERATE, take, concurrency=1):
        await asyncio.wait_for(all_seen.wait(), 30)
    return seen


async def until_waiting(context, count):
    """Wait until the broker counts what has gone back to the queue."""
    async with asyncio.timeout(30):
        while await context.bus.waiting(WorkQueue.GENERATE) != count:  # noqa: ASYNC110 - the broker tells no one
            await asyncio.sleep(0.02)


@pytest.mark.border(rule="C5")
@BOTH
async def test_a_backlog_without_a_generator_is_sent_once(tmp_path, request, kind):
    async with janitor(tmp_path, request, kind) as context:
        await ordered(context, 100)

        await half_an_hour(context)

        assert await context.bus.waiting(WorkQueue.GENERATE) == 100


@pytest.mark.border(rule="C5")
@BOTH
async def test_a_backlog_with_a_lost_command_is_sent_once_more(tmp_path, request, kind):
    """Which one is lost cannot be seen, so all are sent: once, as then none is missing."""
    async with janitor(tmp_path, request, kind) as context:
        made = await ordered(context, 10)
        [lost] = await taken(context, 1)
        await until_waiting(context, 9)

        await half_an_hour(context, minutes=70)

        assert await context.bus.waiting(WorkQueue.GENERATE) == 9 + len(made)
        assert (await context.store.get(lost)).sent_at > made[0].created_at + timedelta(minutes=15)


async def retries_that_are_not_due(context):
    await retries(context, due_in=timedelta(hours=2))


async def retries_that_the_broker_keeps_too_long(context):
    await retries(context, due_in=timedelta(minutes=5))


async def retries(context, due_in):
    for _ in range(5):
        image = await inserted(context, not_before=context.clock.now() + due_in)
        await context.outbox.dispatch(image, delay_s=7200)


async def orders_of_other_services(context):
    """They wait in a queue of their own until they are recorded."""
    request = GenerationRequest(prompt="a lighthouse")
    for _ in range(5):
        image_id = new_image_id(context.clock.now())
        await context.bus.send(GenerateImage(id=image_id, source="newsletter", owner="ada", data=request))


async def images_that_were_cancelled_since(context):
    for image in await ordered(context, 5):
        await change(context.store, image.id, partial(transitions.cancel, now=context.clock.now()))


async def images_that_were_painted_since(context):
    """Their commands were sent before those that wait."""
    for _ in range(5):
        fields = {"sent_at": context.clock.now() - timedelta(minutes=10), "started_at": context.clock.now()}
        await inserted(context, status=Status.COMPLETED, attempts=1, **fields)


BESIDE = {
    retries_that_are_not_due: 5,
    retries_that_the_broker_keeps_too_long: 5,
    orders_of_other_services: 0,
    images_that_were_cancelled_since: 5,
    images_that_were_painted_since: 0,
}


@pytest.mark.long_unless("memory", "rabbitmq-orders_of_other_services")
@pytest.mark.border(rule="C5")
@pytest.mark.parametrize("others", BESIDE, ids=lambda others: others.__name__)
@BOTH
async def test_what_waits_beside_others_is_sent_once(tmp_path, request, kind, others):
    async with janitor(tmp_path, request, kind) as context:
        await others(context)
        made = await ordered(context, 5)
        sent_at = {image.id: (await context.store.get(image.id)).sent_at for image in made}

        await half_an_hour(context)

        assert await context.bus.waiting(WorkQueue.GENERATE) == 5 + BESIDE[others]
        assert {image.id: (await context.store.get(image.id)).sent_at for image in made} == sent_at


@pytest.mark.border(rule="C5")
async def test_janitors_that_run_at_once_do_not_repeat_themselves(tmp_path):
    async with cluster(tmp_path, **DAY) as context:
        made = await ordered(context, 5)
        await taken(context, 5)
        context.clock.advance(11)

        await asyncio.gather(*(reconcile(NOTHING, context=context) for _ in range(2)))
        sent = await context.bus.waiting(WorkQueue.GENERATE)
        await half_an_hour(context)

        assert len(made) <= sent <= 2 * len(made)  # a second copy is skipped by the generator
        assert await context.bus.waiting(WorkQueue.GENERATE) == sent


@pytest.mark.border(rule="C5")
async def test_an_empty_queue_is_seen_at_once(tmp_path):
    async with cluster(tmp_path, **DAY) as context:
        made = await ordered(context, 5)
        await taken(context, 5)
        context.clock.advance(11)

        await reconcile(NOTHING, context=context)

        assert await context.bus.waiting(WorkQueue.GENERATE) == len(made)


@pytest.mark.border(rule="C5")
async def test_an_overtaken_command_is_sent_again(tmp_path):
    """Commands of images that were cancelled since hide the lost one in the count."""
    async with cluster(tmp_path, **DAY) as context:
        [lost] = await ordered(context, 1)
        await taken(context, 1)
        context.clock.advance(61)
        for image in await ordered(context, 3):
            assert await context.store.remove(await context.store.get(image.id))
        await inserted(context, sent_at=context.clock.now(), **running(context, 900))
        context.clock.advance(11)

        await reconcile(NOTHING, context=context)

        assert (await context.store.get(lost.id)).sent_at == context.clock.now()
