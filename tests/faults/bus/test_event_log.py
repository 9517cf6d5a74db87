"""Faults of the event log: trimmed, deleted, or with unreadable entries."""

import aio_pika
import aiormq
import pamqp.encode
import pytest

from common.bus.port import After, Since
from common.bus.rabbitmq.topology import EVENTS, LOG_QUEUE
from common.domain.errors import CursorGone
from common.messages import JanitorSwept as Swept
from common.messages import SweepReport, encode
from tests.contract.bus.support import EPOCH, generate_command, image_event, now, read_events, until
from tests.faults.bus.support import LogReader, open_rabbit_bus, raw_channel


async def test_a_trimmed_log_raises_cursor_gone(vhost: str):
    data = SweepReport(
        dry_run=True,
        files_without_record=0,
        records_without_file=0,
        records_without_thumbnail=0,
        examples=["x" * 30_000],
    )
    async with open_rabbit_bus(vhost, log_bytes=1_000_000, log_segment=100_000, timeout_s=5) as bus:
        await bus.publish(image_event(1))
        (first,) = await read_events(bus, Since(EPOCH), 1)

        async def is_trimmed() -> bool:
            for number in range(20):
                await bus.publish(Swept(id=f"swept-{number}", source="test", time=now(), data=data))
            try:
                await read_events(bus, After(first.cursor), 1)
            except CursorGone:
                return True
            return False

        await until(is_trimmed)


async def test_a_cursor_past_the_end_raises_cursor_gone(vhost: str):
    async with open_rabbit_bus(vhost, timeout_s=2) as bus:
        for number in range(3):
            await bus.publish(image_event(number))
        with pytest.raises(CursorGone):
            await read_events(bus, After("1000.event"), 1)


async def test_a_deleted_log_raises_cursor_gone(vhost: str):
    async with open_rabbit_bus(vhost, timeout_s=2) as bus, raw_channel(vhost) as channel:
        await bus.publish(image_event(1))
        reader = LogReader(bus)
        await reader.wait_for(1)
        await channel.queue_delete(LOG_QUEUE)

        with pytest.raises(CursorGone):
            await reader.wait_for(2)
        await bus.publish(image_event(2))
        assert len(await read_events(bus, Since(EPOCH), 1)) == 1


async def test_an_event_that_cannot_be_read_is_skipped(vhost: str):
    newer = b'{"specversion":"1.0","id":"1","source":"x","type":"image.framed","time":"2025-01-15T12:00:00Z","data":{}}'
    async with open_rabbit_bus(vhost) as bus, raw_channel(vhost) as channel:
        exchange = await channel.get_exchange(EVENTS)
        events = [image_event(1), image_event(2)]
        await bus.publish(events[0])
        for body in (b"\xff", newer, encode(generate_command())):
            await exchange.publish(aio_pika.Message(body), "image.deleted")
        await bus.publish(events[1])

        found = await read_events(bus, Since(EPOCH), 2)
        assert [logged.event.id for logged in found] == [each.id for each in events]
        assert await read_events(bus, After(found[0].cursor), 1) == found[1:]


async def test_an_event_with_an_unreadable_timestamp_is_read(vhost: str):
    """A timestamp in microseconds exceeds the years of Python; without a repair the library closes the connection."""
    events = [image_event(1), image_event(99), image_event(2)]
    async with open_rabbit_bus(vhost) as bus:
        await bus.publish(events[0])
        await _publish_with_timestamp(vhost, EVENTS, "image.deleted", encode(events[1]), 1_736_942_400_000_000)
        await bus.publish(events[2])
        reader = LogReader(bus)
        await reader.wait_for(3)
        await reader.stop()

    assert reader.ids == [each.id for each in events]


async def _publish_with_timestamp(url: str, exchange: str, key: str, body: bytes, timestamp: int) -> None:
    """Publish as a foreign client with a clock in microseconds; no client library in Python can write that."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    properties = aiormq.spec.Basic.Properties(delivery_mode=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pamqp.encode.METHODS, "timestamp", lambda value: int(value).to_bytes(8, "big"))
        properties.timestamp = timestamp  # type: ignore[assignment]  # the declared type is datetime
        await channel.basic_publish(body, exchange=exchange, routing_key=key, properties=properties)
    await connection.close()
