"""Messages with odd properties or bodies: each costs itself alone."""

import logging
from datetime import UTC, datetime

import pytest

from common.bus.handling import MAX_DEAD_BODY
from common.bus.port import Reject, Retry, Since, WorkQueue
from common.bus.rabbitmq.topology import COMMANDS, DEAD, EVENTS, ROUTES, TIMERS, WORK
from common.domain.views import EARLIEST, LATEST
from common.messages import Tick, encode
from tests.borders.bus.support import RawProperties, long_string, nested, open_bus, publish, table, timestamp
from tests.contract.bus.support import (
    EPOCH,
    Recorder,
    cancel_command,
    generate_command,
    has_dead_letters,
    image_event,
    now,
    order_command,
    read_events,
    until,
)

MICROSECONDS = 1_736_942_400_000_000
CLOUD_EVENT = b"application/cloudevents+json"


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


ODD = {
    "timestamp in microseconds": ({"timestamp": timestamp(MICROSECONDS)}, "timestamp"),
    "timestamp of all ones": ({"timestamp": timestamp(2**64 - 1)}, "timestamp"),
    "header with a timestamp in microseconds": (
        {"headers": table((b"when", b"T", timestamp(MICROSECONDS)))},
        "header 'when'",
    ),
    "header whose name is no UTF-8": ({"headers": table((b"\xff\xfe", b"t", b"\1"))}, "header '\ufffd"),
    "header nested 2,000 deep": ({"headers": table((b"deep", b"F", nested(2000)))}, "header 'deep'"),
    "message id that is no UTF-8": ({"message_id": short(b"\xff")}, "message_id"),
    "type that is no UTF-8": ({"message_type": short(b"\xc3")}, "message_type"),
    "compressed": ({"content_encoding": short(b"gzip")}, "content encoding 'gzip'"),
    "UTF-16": ({"content_type": short(CLOUD_EVENT + b"; charset=utf-16")}, "charset=utf-16"),
}
HARMLESS = {
    "not persistent": {"delivery_mode": b"\1"},
    "priority 255": {"priority": b"\xff"},
    "timestamp 0": {"timestamp": timestamp(0)},
    "no properties": {},
    "charset of JSON": {"content_type": short(CLOUD_EVENT + b'; charset="UTF-8"')},
    "expires in a day": {"expiration": short(b"86400000")},
    "our headers": {
        "headers": table(
            (b"failures", b"l", b"\x7f" + b"\xff" * 7), (b"reason", b"x", long_string(b"\xff")), (b"queue", b"V", b"")
        )
    },
    "more keys by CC": {"headers": table((b"CC", b"A", long_string(b"S" + long_string(b"purge"))))},
}


@pytest.mark.long_unless("timestamp in microseconds")
@pytest.mark.border(rule="A5")
@pytest.mark.parametrize("case", ODD)
async def test_an_odd_property_costs_its_own_message_only(vhost: str, case: str, caplog: pytest.LogCaptureFixture):
    properties, named = ODD[case]
    handler, good = Recorder(), order_command()
    async with open_bus(vhost) as bus, bus.consume(WorkQueue.INTAKE, handler, concurrency=1):
        caplog.set_level(logging.INFO)
        await publish(vhost, COMMANDS, "generate", encode(order_command()), RawProperties(**properties))
        await bus.send(good)
        await handler.wait_for(1)
        await until(lambda: has_dead_letters(bus))
        (letter,) = await bus.dead_letters(10)

    assert handler.ids == [good.id]
    assert named in letter.reason
    assert "connected" not in caplog.text  # the connection was never lost


@pytest.mark.border(rule="A5")
@pytest.mark.parametrize(
    ("queue", "exchange", "good"),
    [
        (WorkQueue.INTAKE, COMMANDS, order_command()),
        (WorkQueue.CANCEL, COMMANDS, cancel_command("image-1")),
        (WorkQueue.PURGE, TIMERS, Tick(id="tick", source="test", type="timer.purge", time=now())),
        (WorkQueue.GENERATE, WORK, generate_command()),
    ],
    ids=["orders", "cancels", "ticks", "commands"],
)
async def test_odd_properties_cost_their_own_messages_on_every_queue(vhost: str, queue, exchange, good):
    """Those of a publisher, of an operator, and redriven dead letters; then bodies that are no message."""
    handler, key = Recorder(), ROUTES[queue].key
    bodies = [b"", b"\xff", b"[]", b"null", b"{}", b'"text"', b"[" * 60_000, b'{"type":"' + b"x" * 70_000, b"1" * 5000]
    async with open_bus(vhost) as bus, bus.consume(queue, handler, concurrency=2):
        for properties, _ in ODD.values():
            await publish(vhost, exchange, key, encode(good), RawProperties(**properties))
        for body in bodies:
            await publish(vhost, exchange, key, body)
        await publish(vhost, exchange, key, encode(good))
        await handler.wait_for(1)
        await until(lambda: has_dead_letters(bus, len(ODD) + len(bodies)), limit_s=30)
        letters = await bus.dead_letters(100)

    assert len(handler.received) == 1
    assert len(letters) == len(ODD) + len(bodies)
    assert all(any(named in letter.reason for letter in letters) for _, named in ODD.values())
    assert {letter.queue for letter in letters} == {queue.value}


@pytest.mark.long_unless("our headers", "more keys by CC")
@pytest.mark.border(rule="A7")
@pytest.mark.border(rule="A5")
@pytest.mark.parametrize("case", HARMLESS)
async def test_a_harmless_property_is_taken_and_survives_a_retry(vhost: str, case: str):
    handler, command = Recorder(Retry(0.1), Reject("enough")), order_command()
    async with open_bus(vhost) as bus, bus.consume(WorkQueue.INTAKE, handler, concurrency=1):
        await publish(vhost, COMMANDS, "generate", encode(command), RawProperties(**HARMLESS[case]))
        await handler.wait_for(2)
        await until(lambda: has_dead_letters(bus))
        (letter,) = await bus.dead_letters(10)

    assert handler.ids == [command.id, command.id]
    assert (letter.reason, letter.body) == ("enough", encode(command))


@pytest.mark.border(rule="A5")
@pytest.mark.parametrize(
    ("time", "taken"),
    [
        ("1970-01-01T00:00:00Z", EARLIEST),
        ("0001-01-01T00:00:00+14:00", EARLIEST),
        ("9999-12-31T23:59:59-12:00", LATEST),
    ],
)
async def test_a_time_is_clamped(vhost: str, time: str, taken: datetime):
    body = encode(order_command())
    sent_at = body[body.index(b'"time":"') + 8 :].partition(b'"')[0]
    handler = Recorder()
    old = image_event(1).model_copy(update={"time": datetime(1970, 1, 1, tzinfo=UTC)})
    async with open_bus(vhost) as bus, bus.consume(WorkQueue.INTAKE, handler, concurrency=1):
        await publish(vhost, COMMANDS, "generate", body.replace(sent_at, time.encode()))
        await handler.wait_for(1)
        await publish(vhost, EVENTS, "image.deleted", encode(old))
        (logged,) = await read_events(bus, Since(datetime(1, 1, 1, tzinfo=UTC)), 1)

    assert handler.received[0].time == taken
    assert logged.event.time == EARLIEST


@pytest.mark.border(rule="A5")
async def test_a_body_of_15_mb_is_refused_before_it_is_parsed(vhost: str):
    huge = b'{"id":"' + b"x" * 15_000_000  # RabbitMQ 4 itself refuses more than 16 MiB
    handler, good = Recorder(), order_command()
    async with open_bus(vhost, timeout_s=20) as bus, bus.consume(WorkQueue.INTAKE, handler, concurrency=1):
        await publish(vhost, COMMANDS, "generate", huge)
        await bus.send(good)
        await handler.wait_for(1)
        await until(lambda: has_dead_letters(bus))
        (letter,) = await bus.dead_letters(10)

    assert letter.reason == f"the body has {len(huge)} bytes, but at most 65536 are allowed"
    assert letter.body == huge[:MAX_DEAD_BODY]


FORGED = {
    "died in 1970": {"headers": table((b"died-at", b"S", long_string(b"1970-01-01T00:00:00Z")))},
    "died without a zone": {"headers": table((b"died-at", b"S", long_string(b"2026-01-01T00:00:00")))},
    "died in microseconds": {"headers": table((b"died-at", b"T", timestamp(MICROSECONDS)))},
    "microseconds in 2 kB": {"headers": table((b"x", b"A", long_string((b"T" + timestamp(MICROSECONDS)) * 220)))},
    "a reason with control characters": {"headers": table((b"reason", b"S", long_string(b"\x1b[2J\r\nforged")))},
    "a reason that is a table": {"headers": table((b"reason", b"F", nested(3)), (b"queue", b"I", b"\0\0\0\1"))},
    "an x-death of another form": {"headers": table((b"x-death", b"A", long_string(b"t\1")))},
    "many headers": {"headers": table(*((b"h%d" % number, b"t", b"\1") for number in range(10_000)))},
}


@pytest.mark.long_unless("died in microseconds", "many headers")
@pytest.mark.border(rule="A5")
@pytest.mark.parametrize("case", FORGED)
async def test_a_forged_dead_letter_stops_no_reader(vhost: str, case: str):
    handler = Recorder()
    async with open_bus(vhost) as bus, bus.consume(WorkQueue.INTAKE, Recorder(Reject("no")), concurrency=1):
        await publish(vhost, DEAD, "", b"\xff" * 100, RawProperties(**FORGED[case]))
        await bus.send(order_command())
        await until(lambda: has_dead_letters(bus, 2))
        letters = await bus.dead_letters(10)
        async with bus.consume(WorkQueue.DEAD, handler, concurrency=1):
            await handler.wait_for(2)
        for letter in letters:
            assert await bus.drop(letter.id)

    assert {letter.id for letter in letters} == {letter.id for letter in handler.received}
    assert all(letter.reason.isprintable() for letter in letters)
    assert all(letter.died_at is None or EARLIEST <= letter.died_at <= LATEST for letter in letters)


@pytest.mark.border(rule="A5")
async def test_forged_events_do_not_stop_a_reader(vhost: str):
    first, last = image_event(1), image_event(2)
    forged = [
        RawProperties(timestamp=timestamp(2**64 - 1)),
        RawProperties(headers=table((b"x-stream-offset", b"S", long_string(b"nine")))),
        RawProperties(headers=table((b"deep", b"F", nested(2000)))),
        RawProperties(message_id=short(b"\xff")),
    ]
    async with open_bus(vhost) as bus:
        await bus.publish(first)
        for number, properties in enumerate(forged):
            await publish(vhost, EVENTS, "image.deleted", b"foreign %d" % number, properties)
        await publish(vhost, EVENTS, "image.deleted", b'{"type":"image.deleted","id":"' + b"x" * 1_000_000)
        await bus.publish(last)
        found = await read_events(bus, Since(EPOCH), 2)

    assert [logged.event.id for logged in found] == [first.id, last.id]
