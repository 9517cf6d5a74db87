"""Links to the broker that are cut again and again while a message is handled."""

import logging
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

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
LONG_S = 60.0  # for twenty reconnects on a busy machine


@pytest.mark.long
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
        for _ in range(CUTS):
            caplog.clear()
            proxy.cut()
            await until(partial(_were_redelivered, caplog, [*commands, "image-1", "tick-1"]), limit_s=LONG_S)
        in_hand = [consumer.in_flight for consumer in consumers]
        begun = [len(handler.received) for handler in handlers]
        for handler in handlers:
            handler.gate.set()
        await commands["retried"].wait_for(2)
        await until(lambda: not any(consumer.in_flight for consumer in consumers))
        await until(lambda: _is_empty(other))

        assert (in_hand, begun) == ([3, 1, 1], [1, 1, 1, 1, 1])
        # a message may come once more after its outcome: delivery is at least once
        assert {len(handler.received) for handler in handlers} <= {1, 2, 3}
        assert [letter.reason for letter in await other.dead_letters(10)] == ["no"]


ENDED: dict[str, dict[str, Any]] = {
    "completed": {"status": Status.COMPLETED, "attempts": 1},
    "cancelled": {"status": Status.CANCELLED},
    "deleted": {"status": Status.COMPLETED, "attempts": 1, "deleted_at": now()},
    "failed": {"status": Status.FAILED, "error": Failure(code="worker_lost", detail="six")},
    "queued": {},
}


@pytest.mark.border(rule="A9")
@pytest.mark.long
async def test_a_link_that_is_cut_at_each_acknowledgement(tmp_path, vhost: str):
    """The broker gives up commands whose images have ended long ago; the janitor drops those dead letters."""
    async with (
        cluster(tmp_path) as made,
        open_bus(vhost) as other,
        proxy_before(vhost) as (proxy, url),
        open_bus(url) as bus,
    ):
        context = replace(made, bus=other, outbox=an_outbox(other, made.store, made.clock, source="janitor"))
        images = {name: await inserted(context, **fields) for name, fields in ENDED.items()}
        handled: Counter[str] = Counter()

        async def handle(message) -> Outcome:
            handled[message.id] += 1
            proxy.cut()  # before the acknowledgement
            return Done()

        async with bus.consume(WorkQueue.GENERATE, handle, concurrency=len(images)):
            for image in images.values():
                await context.outbox.dispatch(image)
            await until(lambda: has_dead_letters(context.bus, len(images)), limit_s=LONG_S)
        letters = await context.bus.dead_letters(10)
        for letter in letters:
            assert await fail_dead_letter(letter, context=context) == Done()
        kept = await context.bus.dead_letters(10)
        after = {name: await context.store.get(image.id) for name, image in images.items()}

    assert {letter.reason for letter in letters} == {"delivery_limit"}
    assert min(handled[image.id] for image in images.values()) > DELIVERY_LIMIT / 2
    is_kept = [name for name, image in images.items() if any(image.id.encode() in letter.body for letter in kept)]
    assert is_kept == ["failed", "queued"]
    for name in ENDED.keys() - {"queued"}:
        assert (after[name].status, after[name].error) == (images[name].status, images[name].error)
    assert (after["queued"].status, after["queued"].error.code) == ("failed", "delivery_limit")


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


def _were_redelivered(caplog: pytest.LogCaptureFixture, messages: list[str]) -> bool:
    """Each of them: one may come twice, if the link was cut while the consumer replaced it by a copy."""
    return all(f" {each} is still in progress" in caplog.text for each in messages)


async def _is_empty(bus) -> bool:
    return await bus.waiting(WorkQueue.GENERATE) == 0
