"""The work queues of pools: each is consumed, counted, retried and redriven by itself."""

import aio_pika
import pytest

from common.bus.port import Bus, Reject, Retry, WorkQueue, parse_queue_name
from common.bus.rabbitmq.bus import RabbitBus
from common.domain.errors import Invalid, Unavailable
from tests.contract.bus.support import (
    LIMIT_S,
    RETRY_DELAYS,
    Recorder,
    System,
    generate_command,
    has_dead_letters,
    order_command,
    until,
)

FLUX = "image.work.flux.v1"


async def waits(bus: Bus, pool: str, count: int) -> bool:
    return await bus.waiting(WorkQueue.GENERATE, pool=pool) == count


async def test_a_command_goes_to_its_pool_only(system: System):
    """A pool that nobody has consumed before gets its command later; the others never see it."""
    sender, of_default, of_flux = [await system.process() for _ in range(3)]
    default, flux = Recorder(), Recorder()
    sent, other = generate_command(), generate_command()

    async with of_default.consume(WorkQueue.GENERATE, default, concurrency=2):
        await sender.send(sent, pool="flux")
        await sender.send(other)
        await default.wait_for(1)
        await until(lambda: waits(sender, "flux", 1))
        assert await sender.waiting(WorkQueue.GENERATE) == 0
        async with of_flux.consume(WorkQueue.GENERATE, flux, concurrency=2, pool="flux"):
            await flux.wait_for(1)

    assert (default.ids, flux.ids) == ([other.id], [sent.id])
    assert await sender.waiting(WorkQueue.GENERATE, pool="flux") == 0


async def test_a_retry_and_a_delay_stay_in_the_pool(system: System):
    sender, consumer = [await system.process() for _ in range(2)]
    default, flux = Recorder(), Recorder(Retry(RETRY_DELAYS[0]))
    sent = generate_command()

    async with (
        consumer.consume(WorkQueue.GENERATE, default, concurrency=1),
        consumer.consume(WorkQueue.GENERATE, flux, concurrency=1, pool="flux"),
    ):
        await sender.send(sent, pool="flux", delay_s=RETRY_DELAYS[0])
        await flux.wait_for(2)

    assert (default.ids, flux.ids) == ([], [sent.id, sent.id])


async def test_a_dead_letter_is_redriven_to_its_pool(bus: Bus):
    sent = generate_command()
    async with bus.consume(WorkQueue.GENERATE, Recorder(Reject("no")), concurrency=1, pool="flux"):
        await bus.send(sent, pool="flux")
        await until(lambda: has_dead_letters(bus))
    (letter,) = await bus.dead_letters(10)

    assert letter.queue == "image.work.flux"
    assert await bus.redrive(letter.id)
    handler = Recorder()
    async with bus.consume(WorkQueue.GENERATE, handler, concurrency=1, pool="flux"):
        await handler.wait_for(1)
    assert handler.ids == [sent.id]


async def test_a_request_goes_to_the_intake_whatever_pool_is_named(bus: Bus):
    handler, order = Recorder(), order_command()
    async with bus.consume(WorkQueue.INTAKE, handler, concurrency=1):
        await bus.send(order, pool="flux")
        await handler.wait_for(1)

    assert handler.ids == [order.id]


def test_a_queue_is_found_by_its_name():
    for pool in ("default", "flux", "a-1", "x" * 40):
        assert parse_queue_name(WorkQueue.GENERATE.of_pool(pool)) == (WorkQueue.GENERATE, pool)
    assert parse_queue_name("timer.purge") == (WorkQueue.PURGE, "default")
    for name in ("image.work.", "image.work.A", "image.work." + "x" * 41, "image.work.a.b", "x", ""):
        with pytest.raises(Invalid):
            parse_queue_name(name)


@pytest.mark.rabbitmq
async def test_a_pool_that_fails_fails_alone(vhost):
    """The queue of one pool exists with other arguments; that of another one is deleted while it is used."""
    async with (
        await aio_pika.connect(vhost) as connection,
        connection.channel() as channel,
        RabbitBus.open(vhost, name="test", retry_delays=RETRY_DELAYS, timeout_s=LIMIT_S) as bus,
    ):
        await channel.declare_queue("image.work.odd.v1", durable=True)
        for _ in range(2):
            with pytest.raises(Unavailable, match="odd"):
                await bus.send(generate_command(), pool="odd")
            with pytest.raises(Unavailable, match="odd"):
                await bus.waiting(WorkQueue.GENERATE, pool="odd")
            await bus.send(generate_command(), pool="flux")
            await bus.send(generate_command())
        assert bus.unready_reason == ""

        await channel.queue_delete(FLUX)
        with pytest.raises(Unavailable):
            await bus.send(generate_command(), pool="flux")
        await bus.send(generate_command(), pool="flux")
        assert await bus.waiting(WorkQueue.GENERATE, pool="flux") == 1
        assert await bus.waiting(WorkQueue.GENERATE) == 2


@pytest.mark.rabbitmq
async def test_a_consumer_declares_the_queue_of_its_pool(vhost):
    """Also again, if an operator deletes it."""
    handler = Recorder()
    async with (
        await aio_pika.connect(vhost) as connection,
        connection.channel() as channel,
        RabbitBus.open(vhost, name="test", retry_delays=RETRY_DELAYS, timeout_s=LIMIT_S) as bus,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=1, pool="flux"),
    ):
        await bus.send(generate_command(), pool="flux")
        await handler.wait_for(1)
        await channel.queue_delete(FLUX)
        await until(lambda: bus.unready_reason == "")

        async def is_sent():
            try:
                await bus.send(generate_command(), pool="flux")
            except Unavailable:
                return False
            return True

        await until(is_sent)
        await handler.wait_for(2)
