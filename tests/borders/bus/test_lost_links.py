"""Links to the broker that are cut again and again while a message is handled."""

import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from common.bus.port import Done, Outcome, Reject, Retry, WorkQueue
from common.bus.rabbitmq.topology import DELIVERY_LIMIT
from common.domain.images import Failure, Status
from common.messages import Tick
from services.janitor.dead_letters import fail_dead_letter
from tests.borders.bus.support import open_bus
from tests.contract.bus.support import Recorder, cancel_command, generate_command, has_dead_letters, now, until
from tests.making import an_outbox
from tests.proxy import proxy_before
from tests.unit.janitor.support import cluster, inserted

CUTS = DELIVERY_LIMIT + 6


@pytest.mark.border(rule="A9")
async def test_a_link_that_is_cut_often_makes_no_dead_letter(vhost: str, caplog: pytest.LogCaptureFixture):
    """The broker counts each return of a message, and gives up after twenty; the handlers run all the time.

    Of a message that ends well, of one that is retried, of one that is refused, and of the messages of other queues.
    """
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    commands = {"well": Recorder(Done()), "retried": Recorder(Retry(0.1), Done()), "refused": Recorder(Reject("no"))}
    others = {queue: Recorder() for queue in (WorkQueue.CANCEL, WorkQueue.PURGE)}
    handlers = [*commands.values(), *others.values()]
    for handler in handlers:
        handler.gate.clear()

    async def generate(message) -> Outcome:
        return await commands[message.id](message)

    async with AsyncExitStack() as stack:
        proxy, url = await stack.enter_async_context(proxy_before(vhost))
        bus = await stack.enter_async_context(open_bus(url))
        other = await stack.enter_async_context(open_bus(vhost))
        consumers = [
            await stack.enter_async_context(bus.consume(queue, handle, concurrency=3))
            for queue, handle in {WorkQueue.GENERATE: generate, **others}.items()
        ]
        for name in commands:
            await other.send(generate_command(name))
        await other.send(cancel_command("image-1"))
        await other.tick(Tick(id="tick-1", source="test", type="timer.purge", time=now()))
        for handler in handlers:
            await handler.wait_for(1)
        for number in range(CUTS):
            proxy.cut()
            await until(partial(_were_redelivered, caplog, len(handlers) * (number + 1)))
        in_hand = [consumer.in_flight for consumer in consumers]
        for handler in handlers:
            handler.gate.set()
        await commands["retried"].wait_for(2)
        await until(lambda: not any(consumer.in_flight for consumer in consumers))
        await until(lambda: _is_empty(other))

        assert (in_hand, {len(handler.received) for handler in handlers}) == ([3, 1, 1], {1, 2})
        assert [letter.reason for letter in await other.dead_letters(10)] == ["no"]


@pytest.mark.border(rule="A9")
@pytest.mark.parametrize(
    ("fields", "is_kept"),
    [
        ({"status": Status.COMPLETED, "attempts": 1}, False),
        ({"status": Status.CANCELLED}, False),
        ({"status": Status.COMPLETED, "attempts": 1, "deleted_at": now()}, False),
        ({"status": Status.FAILED, "error": Failure(code="worker_lost", detail="six")}, True),
        ({}, True),
    ],
    ids=["completed", "cancelled", "deleted", "failed", "queued"],
)
async def test_a_link_that_is_cut_at_each_acknowledgement(tmp_path, vhost: str, fields, is_kept):
    """The broker gives up a command whose image has ended long ago; the janitor drops that dead letter."""
    async with (
        cluster(tmp_path) as made,
        open_bus(vhost) as other,
        proxy_before(vhost) as (proxy, url),
        open_bus(url) as bus,
    ):
        context = replace(made, bus=other, outbox=an_outbox(other, made.store, made.clock, source="janitor"))
        image = await inserted(context, **fields)
        handler = Recorder()

        async def handle(message) -> Outcome:
            proxy.cut()  # before the acknowledgement
            return await handler(message)

        async with bus.consume(WorkQueue.GENERATE, handle, concurrency=1):
            await context.outbox.dispatch(image)
            await until(lambda: has_dead_letters(context.bus))
        [letter] = await context.bus.dead_letters(10)
        assert await fail_dead_letter(letter, context=context) == Done()

        assert (len(handler.received) > DELIVERY_LIMIT / 2, letter.reason) == (True, "delivery_limit")
        assert bool(await context.bus.dead_letters(10)) is is_kept
        after = await context.store.get(image.id)
        assert (after.status, after.error and after.error.code) == (
            ("failed", "delivery_limit") if not fields else (image.status, image.error and image.error.code)
        )


@pytest.mark.border(rule="B2")
async def test_only_a_redelivery_joins_its_running_handler(vhost: str, caplog: pytest.LogCaptureFixture):
    """Both come back with the cut link, marked as delivered before."""
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.consumer")
    handler = Recorder()
    handler.gate.clear()
    first = generate_command("image-1")
    second = first.model_copy(update={"time": now() + timedelta(seconds=1)})
    async with (
        proxy_before(vhost) as (proxy, url),
        open_bus(url) as bus,
        open_bus(vhost) as other,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=3) as consumer,
    ):
        await other.send(first)
        await handler.wait_for(1)
        await other.send(second)
        await other.send(generate_command("marker"))
        await handler.wait_for(2)
        proxy.cut()
        await until(lambda: caplog.text.count("is still in progress") >= 2)  # image-1 and the marker
        handler.gate.set()
        await handler.wait_for(3)
        await until(lambda: consumer.in_flight == 0)

    assert handler.ids == ["image-1", "marker", "image-1"]
    assert handler.received[2].time > handler.received[0].time


def _were_redelivered(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return caplog.text.count("is still in progress") >= times


async def _is_empty(bus) -> bool:
    return await bus.waiting(WorkQueue.GENERATE) == 0
