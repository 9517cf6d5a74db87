"""The topology of version 0.1 on the broker: what it holds is handled, what it allows too much is taken back."""

import aio_pika
import pytest
from aio_pika.exceptions import PublishError
from pamqp.common import FieldValue

from common.bus.port import WorkQueue
from common.bus.rabbitmq.topology import _AT_LEAST_ONCE, COMMANDS, ROUTES, milliseconds
from common.messages import encode
from tests.borders.bus.support import RETRY_DELAYS, open_bus
from tests.contract.bus.support import Recorder, generate_command, until
from tests.faults.bus.support import raw_channel

WORK_QUEUES = {
    "generate": "image.commands.generate.v1",
    "cancel": "image.commands.cancel.v1",
    "reconcile": "image.timer.reconcile.v1",
    "purge": "image.timer.purge.v1",
    "sweep": "image.timer.sweep.v1",
    "dead": "image.dead.work.v1",
}
LONG_MS = 3_600_000


def _arguments(name: str) -> dict:
    if "timer" in name:
        return {"x-queue-type": "classic", "x-single-active-consumer": True}
    quorum = {"x-queue-type": "quorum", "x-delivery-limit": 20}
    return quorum if "dead" in name else {**quorum, "x-dead-letter-exchange": "image.dead", **_AT_LEAST_ONCE}


async def declare_old(channel, delays_ms) -> dict[str, aio_pika.abc.AbstractExchange]:
    """What version 0.1 declares."""
    kinds = {COMMANDS: "direct", "image.timers": "direct", "image.dead": "fanout", "image.events": "topic"}
    kinds |= {f"image.retry.{delay}": "fanout" for delay in delays_ms}
    exchanges = {name: await channel.declare_exchange(name, kind, durable=True) for name, kind in kinds.items()}
    for key, name in WORK_QUEUES.items():
        queue = await channel.declare_queue(name, durable=True, arguments=_arguments(name))
        await queue.bind(COMMANDS, key)
        if "image.commands" not in name:
            await queue.bind("image.dead" if key == "dead" else "image.timers", key)
    kept = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    await (await channel.declare_queue("image.dead.v1", durable=True, arguments=kept)).bind("image.dead", "")
    for delay in delays_ms:
        retry = {
            "x-queue-type": "quorum",
            "x-message-ttl": delay,
            "x-dead-letter-exchange": COMMANDS,
            **_AT_LEAST_ONCE,
        }
        queue = await channel.declare_queue(f"image.retry.{delay}.v1", durable=True, arguments=retry)
        await queue.bind(f"image.retry.{delay}", "")
    return exchanges


async def _is_bound(url: str, key: str) -> bool:
    async with (
        await aio_pika.connect(url) as connection,
        connection.channel(on_return_raises=True) as channel,
    ):
        exchange = await channel.get_exchange(COMMANDS)
        try:
            await exchange.publish(aio_pika.Message(b"{}", message_id="1"), key, mandatory=True)
        except PublishError:  # returned by the broker
            return False
        return True


@pytest.mark.border(rule="A4")
async def test_what_an_older_version_left_is_taken_over(vhost: str):
    """A retry that waits for an hour, a dead letter that nobody has handled, and a binding for every key."""
    retried, dead = generate_command(), generate_command()
    letters = Recorder()
    async with raw_channel(vhost) as channel:
        exchanges = await declare_old(channel, [LONG_MS])
        await exchanges[f"image.retry.{LONG_MS}"].publish(aio_pika.Message(encode(retried)), "generate")
        headers: dict[str, FieldValue] = {
            "reason": "no such model",
            "queue": "image.generate",
            "died-at": "2026-01-01T00:00:00.000Z",
        }
        await exchanges["image.dead"].publish(aio_pika.Message(encode(dead), headers=headers), "generate")

        async with open_bus(vhost, retry_delays=(0.1, LONG_MS / 1000)) as bus:
            (letter,) = await bus.dead_letters(10)
            assert (letter.reason, letter.queue, letter.body) == ("no such model", "image.generate", encode(dead))
            async with bus.consume(WorkQueue.DEAD, letters, concurrency=1):
                await letters.wait_for(1)
            assert letters.received == [letter]
            assert [key for key in WORK_QUEUES if await _is_bound(vhost, key)] == ["generate", "cancel"]

            moved = await channel.declare_queue(f"image.retry.{LONG_MS}.v2", passive=True)
            assert moved.declaration_result.message_count == 1
            for old in (f"image.retry.{LONG_MS}.v1", "image.dead.v1", "image.dead.work.v1"):
                assert (await channel.declare_queue(old, passive=True)).declaration_result.message_count == 0


@pytest.mark.border(rule="A4")
async def test_a_process_of_the_older_version_still_retries(vhost: str):
    """Its retry queue leads back by the exchange of the publishers, whose keys for orders are still bound."""
    delay = milliseconds(RETRY_DELAYS[0])
    handler = Recorder()
    async with raw_channel(vhost) as channel:
        exchanges = await declare_old(channel, [delay])
        async with open_bus(vhost) as bus, bus.consume(WorkQueue.INTAKE, handler, concurrency=1):
            command = generate_command()
            await exchanges[f"image.retry.{delay}"].publish(aio_pika.Message(encode(command)), "generate")
            await handler.wait_for(1)

    assert handler.ids == [command.id]


@pytest.mark.border(rule="A4")
@pytest.mark.parametrize("key", ["purge", "sweep", "reconcile", "dead"])
async def test_a_message_by_a_leftover_binding_is_refused(vhost: str, key: str, caplog: pytest.LogCaptureFixture):
    """An older process that starts later binds its keys again."""
    (queue, route) = next((queue, route) for queue, route in ROUTES.items() if route.key == key)
    handler = Recorder()
    async with (
        open_bus(vhost) as bus,
        bus.consume(queue, handler, concurrency=1) as consumer,
        raw_channel(vhost) as channel,
    ):
        await (await channel.get_queue(route.queue)).bind(COMMANDS, key)
        body = b'{"specversion":"1.0","id":"1","source":"x","type":"timer.%s","time":"2026-01-01T00:00:00Z"}'
        body %= key.encode()
        await (await channel.get_exchange(COMMANDS)).publish(aio_pika.Message(body), key)
        refused = f"it came by the exchange 'image.commands', which may not lead to {queue}"
        await until(lambda: refused in caplog.text)
        assert await consumer.drain(5)

    assert handler.received == []
