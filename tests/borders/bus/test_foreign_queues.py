"""Queues of other services on the exchange of events: whatever they do, orders and events go on."""

import contextlib
import logging

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError
from prometheus_client import REGISTRY

from common.bus.port import Since, WorkQueue
from common.bus.rabbitmq.topology import EVENTS
from tests.borders.bus.support import open_bus
from tests.contract.bus.support import EPOCH, Recorder, generate_command, image_event, read_events
from tests.faults.bus.support import raw_channel

FULL = {"x-max-length": 0, "x-overflow": "reject-publish"}


async def _bind_classic(channel, _exchange) -> None:
    queue = await channel.declare_queue("listener.classic", durable=True, arguments=FULL)
    await queue.bind(EVENTS, "image.#")


async def _bind_quorum(channel, exchange) -> None:
    arguments = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    queue = await channel.declare_queue("listener.quorum", durable=True, arguments=arguments)
    await queue.bind(EVENTS, "#")
    with contextlib.suppress(DeliveryError):
        for _ in range(5):  # a quorum queue accepts a few messages above its limit
            await exchange.publish(aio_pika.Message(b"{}"), "filler")


async def _bind_by_bytes(channel, _exchange) -> None:
    arguments = {"x-max-length-bytes": 1, "x-overflow": "reject-publish-dlx"}
    queue = await channel.declare_queue("listener.bytes", arguments=arguments)
    await queue.bind(EVENTS, "image.deleted")


async def _bind_exchange(channel, _exchange) -> None:
    own = await channel.declare_exchange("listener.copies", "fanout")
    await own.bind(EVENTS, "#")
    queue = await channel.declare_queue("listener.behind", arguments=FULL)
    await queue.bind(own)


@pytest.mark.border(rule="A3")
@pytest.mark.parametrize("bind", [_bind_classic, _bind_quorum, _bind_by_bytes, _bind_exchange])
async def test_a_full_queue_of_another_service_stops_nothing(vhost: str, bind, caplog: pytest.LogCaptureFixture):
    handler = Recorder()
    events = [image_event(1), image_event(2)]
    before = REGISTRY.get_sample_value("darkroom_events_refused_total") or 0
    async with (
        open_bus(vhost) as bus,
        bus.consume(WorkQueue.GENERATE, handler, concurrency=1),
        raw_channel(vhost) as channel,
    ):
        await bind(channel, await channel.get_exchange(EVENTS))
        caplog.set_level(logging.WARNING)
        for event in events:
            await bus.publish(event)
        await bus.send(generate_command())
        await handler.wait_for(1)

        found = await read_events(bus, Since(EPOCH), 2)
        assert {logged.event.id for logged in found} <= {event.id for event in events}
        assert (bus.unready_reason, "of another service" in bus.warning) == ("", True)
        assert len([record for record in caplog.records if "refuses events" in record.message]) == 1
        assert REGISTRY.get_sample_value("darkroom_events_refused_total") == before + 2
