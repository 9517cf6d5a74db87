"""What the bus on RabbitMQ survives: each test is named after its row in the list of faults."""

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import aiormq
import pamqp.encode
import pytest

from common.bus.port import After, Since, WorkQueue
from common.bus.rabbitmq.bus import RabbitBus
from common.bus.rabbitmq.topology import _AT_LEAST_ONCE, DEAD_QUEUE, EVENTS, LOG_QUEUE, ROUTES
from common.bus.rabbitmq.working import Worker
from common.clock import ManualClock
from common.errors import CursorGone, Misconfigured, Unavailable, Unconfirmed
from common.messages import ApiJoined, SweepReport, encode
from common.messages import JanitorSwept as Swept
from tests.contract.bus_support import Recorder, event, now, order, some, until
from tests.proxy import proxy_before
from tests.servers.rabbitmq import RabbitMQ

EPOCH = now() - timedelta(minutes=1)
RECOVERY_S = 30.0  # a broker needs 6 s to start, a half-open link 6 s to be found


def opened(url: str, **settings):
    return RabbitBus.open(url, **{"name": "test", "retry_delays": (0.2, 1), "timeout_s": 2, **settings})


@asynccontextmanager
async def raw_channel(url: str):
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        yield channel


class Reading:
    """A reader at work, and the ids it has seen."""

    def __init__(self, bus: RabbitBus) -> None:
        self.ids: list[str] = []
        self._task = asyncio.create_task(self._read(bus))

    async def _read(self, bus: RabbitBus) -> None:
        async for logged in bus.read(Since(EPOCH)):
            self.ids.append(logged.event.id)

    async def saw(self, count: int) -> None:
        await until(lambda: len(self.ids) >= count or self._task.done(), limit_s=RECOVERY_S)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def is_refused(outcome: BaseException | None) -> bool:
    """The broker does not have it, for sure."""
    return isinstance(outcome, Unavailable) and not isinstance(outcome, Unconfirmed)


async def is_well(bus: RabbitBus) -> None:
    await until(lambda: bus.trouble == "", limit_s=RECOVERY_S)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_01_02_53_a_broker_restart_loses_nothing_and_repeats_nothing(rabbitmq: RabbitMQ, how: str):
    events = [event(number) for number in range(10)]
    orders = [order() for _ in range(3)]
    working, ticking = Recorder(), Recorder()
    async with opened(rabbitmq.fresh_vhost()) as bus, bus.work(WorkQueue.GENERATE, working, concurrency=1) as taking:
        reading = Reading(bus)
        # a broker that is killed within half a second of declaring a queue may forget it (Ra's directory, 3.10)
        await bus.send(order(), delay_s=1)
        await working.saw(1)
        await taking.pause()
        await asyncio.gather(*(bus.send(each) for each in orders))
        for each in events[:5]:
            await bus.publish(each)
        await reading.saw(5)
        await bus.arm("timer.purge", interval_s=2)  # it falls due while the broker is down

        await asyncio.to_thread(getattr(rabbitmq, how))
        with pytest.raises(Unavailable):
            await bus.publish(event(99))
        await until(lambda: bus.trouble != "")
        await asyncio.to_thread(rabbitmq.start)

        await is_well(bus)
        for each in events[5:]:
            await bus.publish(each)
        await reading.saw(10)
        await taking.resume()
        await working.saw(4)
        async with bus.work(WorkQueue.PURGE, ticking, concurrency=1):
            await ticking.saw(1)
            armed_again = await bus.arm("timer.purge", interval_s=60)
        await reading.stop()

    assert reading.ids == [each.id for each in events]
    assert sorted(working.ids[1:]) == sorted(each.id for each in orders)
    assert (len(ticking.seen), armed_again) == (1, True)


async def test_04_work_goes_on_when_every_connection_is_closed(rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.working")
    worker = Recorder()
    worker.gate.clear()
    first, second = order(), order()
    url = rabbitmq.fresh_vhost()
    async with opened(url) as bus:
        async with bus.work(WorkQueue.GENERATE, worker, concurrency=1) as taking:
            await bus.send(first)
            await worker.saw(1)

            vhost = urlsplit(url).path[1:]
            await asyncio.to_thread(rabbitmq.ctl, "close_all_connections", "--vhost", vhost, "a test")
            await until(lambda: "is still in hand" in caplog.text, limit_s=RECOVERY_S)
            worker.gate.set()
            await is_well(bus)
            await bus.send(second)
            await worker.saw(2)
            assert await taking.drain(5)

        assert worker.ids == [first.id, second.id]
        assert await bus.waiting(WorkQueue.GENERATE) == 0


async def test_04_no_more_than_the_concurrency_is_in_hand_after_a_reconnect(vhost: str):
    worker = Recorder()
    worker.gate.clear()
    async with (
        proxy_before(vhost) as (proxy, url),
        opened(url) as bus,
        opened(vhost) as other,
        bus.work(WorkQueue.GENERATE, worker, concurrency=2),
    ):
        for _ in range(2):
            await bus.send(order())
        await worker.saw(2)
        taken_over = Recorder()
        async with other.work(WorkQueue.GENERATE, taken_over, concurrency=2):
            proxy.cut()
            await taken_over.saw(2)
        for _ in range(4):
            await other.send(order())
        await until(lambda: _pending(bus) == 2, limit_s=RECOVERY_S)
        in_hand = worker.running
        worker.gate.set()
        await worker.saw(6)

    assert (in_hand, worker.most_at_once) == (2, 2)


@pytest.mark.slow
async def test_05_a_half_open_link_is_found_and_events_are_late_but_not_lost(vhost: str):
    async with proxy_before(vhost) as (proxy, url), opened(url, heartbeat=1) as bus, opened(vhost) as other:
        worker = Recorder()
        reading = Reading(bus)
        async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
            await bus.publish(event(1))
            await reading.saw(1)
            proxy.half_open()
            late = event(2)
            await other.publish(late)
            await other.send(order())

            await reading.saw(2)
            await worker.saw(1, limit_s=RECOVERY_S)
            await reading.stop()

    assert reading.ids[-1] == late.id
    assert len(reading.ids) == 2


async def test_06_a_link_cut_before_the_confirm_leaves_the_outcome_unknown(vhost: str):
    async with proxy_before(vhost) as (proxy, url), opened(url, timeout_s=3) as bus:
        proxy.silence()
        publishing = [asyncio.create_task(bus.publish(event(number))) for number in range(100)]
        await asyncio.sleep(0)  # they start, and write
        proxy.resume()
        proxy.silence()
        proxy.cut()

        outcomes = await asyncio.gather(*publishing, return_exceptions=True)
        proxy.resume()
        await is_well(bus)
        await bus.publish(event(100))

    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert not all(map(is_refused, outcomes))


async def test_06_whatever_is_under_way_when_links_are_cut_again_and_again_has_an_outcome(vhost: str):
    events = [event(number) for number in range(300)]
    async with proxy_before(vhost) as (proxy, url), opened(url) as bus, opened(vhost) as other:

        async def cut_often() -> None:
            for _ in range(5):
                await asyncio.sleep(0.05)
                proxy.cut()

        reading = Reading(bus)
        cutting = asyncio.create_task(cut_often())
        outcomes = []
        for batch in range(0, 300, 30):
            publishing = (bus.publish(each) for each in events[batch : batch + 30])
            outcomes += await asyncio.gather(*publishing, return_exceptions=True)
        await cutting
        last = event(999)
        await other.publish(last)
        await until(lambda: last.id in reading.ids, limit_s=RECOVERY_S)
        await reading.stop()

    confirmed = [each.id for each, outcome in zip(events, outcomes, strict=True) if outcome is None]
    assert all(outcome is None or isinstance(outcome, Unavailable) for outcome in outcomes)
    assert set(confirmed) <= set(reading.ids)
    assert len(set(reading.ids)) == len(reading.ids)


async def test_07_a_blackholed_publish_is_unconfirmed_in_time(vhost: str):
    async with proxy_before(vhost) as (proxy, url), opened(url, timeout_s=0.5) as bus:
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(Unconfirmed):
            await bus.publish(event(1))
        took_s = time.monotonic() - began
        trouble = bus.trouble
        proxy.resume()

    assert took_s < 3
    assert trouble == "the broker has not confirmed the latest message"


async def test_08_under_an_alarm_publishing_stops_and_acks_go_on(rabbitmq: RabbitMQ):
    worker = Recorder()
    async with opened(rabbitmq.fresh_vhost(), timeout_s=1) as bus:
        for _ in range(3):
            await bus.send(order())
        await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.00001")
        try:
            with pytest.raises(Unconfirmed):
                await bus.publish(event(1))
            async with bus.work(WorkQueue.GENERATE, worker, concurrency=1) as taking:
                await worker.saw(3)
                assert await taking.drain(5)
            await until(lambda: "memory is full" in bus.trouble)
        finally:
            await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")
        await is_well(bus)
        await bus.publish(event(2))

        assert await bus.waiting(WorkQueue.GENERATE) == 0


async def test_09_a_missing_exchange_is_declared_again(vhost: str):
    async with opened(vhost) as bus, raw_channel(vhost) as channel:
        await channel.exchange_delete(EVENTS)
        with pytest.raises(Unavailable):
            await bus.publish(event(1))

        await until(lambda: bus.trouble == "")
        await bus.publish(event(2))
        assert len(await some(bus, Since(EPOCH), 1)) == 1


async def test_09_a_missing_binding_is_declared_again_and_nothing_vanishes(vhost: str):
    route = ROUTES[WorkQueue.GENERATE]
    same = order()
    async with opened(vhost) as bus, raw_channel(vhost) as channel:
        await (await channel.get_queue(route.queue)).unbind(route.exchange, route.key)
        outcomes = await asyncio.gather(bus.send(same), bus.send(same), bus.send(order()), return_exceptions=True)
        await bus.send(order())

        assert all(map(is_refused, outcomes))
        await until(lambda: _waiting(bus, 1))


async def test_10_a_queue_with_other_arguments_ends_the_start_by_name(vhost: str):
    name = ROUTES[WorkQueue.GENERATE].queue
    async with raw_channel(vhost) as channel:
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-dead-letter-exchange": "image.dead"}
        await channel.declare_queue(name, durable=True, arguments={**arguments, **_AT_LEAST_ONCE})

    with pytest.raises(Misconfigured, match=rf"{name}.*x-delivery-limit") as raised:
        async with opened(vhost):
            pytest.fail("it opened")
    assert "20" in raised.value.detail


async def test_11_a_deleted_queue_is_consumed_again_within_a_second(vhost: str):
    worker = Recorder()
    async with opened(vhost) as bus, bus.work(WorkQueue.GENERATE, worker, concurrency=1), raw_channel(vhost) as channel:
        await channel.queue_delete(ROUTES[WorkQueue.GENERATE].queue)
        began = time.monotonic()
        await until(lambda: _sent(bus))
        await worker.saw(1)
        took_s = time.monotonic() - began

    assert took_s < 2  # 0.3 s; twice the second for a busy machine


async def test_12_a_channel_that_the_broker_closes_is_opened_again(vhost: str, caplog: pytest.LogCaptureFixture):
    """As the consumer timeout does, which takes a minute to be noticed by the broker: the same close, made at once."""
    caplog.set_level(logging.DEBUG, "common.bus.rabbitmq.working")
    worker = Recorder()
    worker.gate.clear()
    async with opened(vhost) as bus, bus.work(WorkQueue.GENERATE, worker, concurrency=1) as taking:
        await bus.send(order())
        await worker.saw(1)
        await taking._session.raw.basic_ack(999)  # PRECONDITION_FAILED, unknown delivery tag
        await until(lambda: "is still in hand" in caplog.text)
        worker.gate.set()
        assert await taking.drain(5)

        assert len(worker.seen) == 1
        assert await bus.waiting(WorkQueue.GENERATE) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"netloc": "guest:wrong-secret@{address}"}, "refuses the user 'guest' or its password"),
        ({"path": "/nowhere"}, "has no virtual host 'nowhere' for the user 'guest'"),
    ],
)
async def test_13_wrong_credentials_end_the_start_with_a_clear_text(vhost: str, change: dict[str, str], expected: str):
    parts = urlsplit(vhost)
    change = {name: value.format(address=parts.netloc.rpartition("@")[2]) for name, value in change.items()}

    with pytest.raises(Misconfigured, match=expected) as raised:
        async with opened(urlunsplit(parts._replace(**change))):
            pytest.fail("it opened")
    assert "secret" not in raised.value.detail


async def test_13_a_broker_that_is_not_there_yet_is_waited_for(vhost: str):
    async with proxy_before(vhost) as (proxy, url):
        proxy.refuse()
        async with opened(url, timeout_s=0.3) as bus:
            trouble = bus.trouble
            with pytest.raises(Unavailable) as raised:
                await bus.send(order())
            worker = Recorder()
            async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
                await proxy.listen()
                await is_well(bus)
                await bus.send(order())
                await worker.saw(1)

    assert "connecting to 127.0.0.1" in trouble
    assert is_refused(raised.value)


async def test_13_a_wrong_password_that_is_only_seen_later_ends_the_block(vhost: str):
    async with proxy_before(vhost.replace("guest:guest", "guest:wrong")) as (proxy, url):
        proxy.refuse()

        async def serve() -> None:
            async with opened(url, timeout_s=0.3):
                await proxy.listen()
                await asyncio.Event().wait()

        with pytest.raises(Misconfigured, match="refuses the user"):
            await serve()


async def test_14_a_full_queue_refuses(rabbitmq: RabbitMQ):
    url = rabbitmq.fresh_vhost()
    policy = ("set_policy", "-p", urlsplit(url).path[1:], "full", "^image.commands", '{"max-length": 1}')
    async with opened(url) as bus:
        await asyncio.to_thread(rabbitmq.ctl, *policy, "--apply-to", "queues")

        async def is_full() -> bool:
            try:
                await bus.send(order())
            except Unavailable as error:
                return is_refused(error)
            return False

        await until(is_full)  # a quorum queue takes some more than its limit


async def test_52_a_lost_token_is_armed_again(vhost: str):
    async with opened(vhost) as bus, raw_channel(vhost) as channel:
        await bus.arm("timer.purge", interval_s=60)
        await (await channel.get_queue("image.timer.purge.wait.60000.v1", ensure=False)).purge()

        assert await bus.arm("timer.purge", interval_s=60)
        await channel.queue_delete("image.timer.purge.wait.60000.v1")
        assert await bus.arm("timer.purge", interval_s=60)
        assert not await bus.arm("timer.purge", interval_s=60)


# ---------------------------------------------------------------- the event log


async def test_a_trimmed_log_says_that_the_cursor_is_gone(vhost: str):
    data = SweepReport(
        dry_run=True,
        files_without_record=0,
        records_without_file=0,
        records_without_thumbnail=0,
        examples=["x" * 30_000],
    )
    async with opened(vhost, log_bytes=1_000_000, log_segment=100_000, timeout_s=5) as bus:
        await bus.publish(event(1))
        (first,) = await some(bus, Since(EPOCH), 1)

        async def is_trimmed() -> bool:
            for number in range(20):
                await bus.publish(Swept(id=f"swept-{number}", source="test", time=now(), data=data))
            try:
                await some(bus, After(first.cursor), 1)
            except CursorGone:
                return True
            return False

        await until(is_trimmed)


async def test_a_cursor_past_the_end_is_gone(vhost: str):
    async with opened(vhost, timeout_s=0.5) as bus:
        for number in range(3):
            await bus.publish(event(number))
        with pytest.raises(CursorGone):
            await some(bus, After("1000.event"), 1)


async def test_a_log_that_was_deleted_says_so_to_who_reads_it(vhost: str):
    async with opened(vhost, timeout_s=0.5) as bus, raw_channel(vhost) as channel:
        await bus.publish(event(1))
        reading = Reading(bus)
        await reading.saw(1)
        await channel.queue_delete(LOG_QUEUE)

        with pytest.raises(CursorGone):
            await reading.saw(2)
        await bus.publish(event(2))
        assert len(await some(bus, Since(EPOCH), 1)) == 1


async def test_an_event_that_cannot_be_read_is_passed_over(vhost: str):
    newer = b'{"specversion":"1.0","id":"1","source":"x","type":"image.framed","time":"2025-01-15T12:00:00Z","data":{}}'
    async with opened(vhost) as bus, raw_channel(vhost) as channel:
        exchange = await channel.get_exchange(EVENTS)
        events = [event(1), event(2)]
        await bus.publish(events[0])
        for body in (b"\xff", newer, encode(order())):
            await exchange.publish(aio_pika.Message(body), "image.deleted")
        await bus.publish(events[1])

        found = await some(bus, Since(EPOCH), 2)
        assert [logged.event.id for logged in found] == [each.id for each in events]
        assert await some(bus, After(found[0].cursor), 1) == found[1:]


async def test_an_event_whose_frame_breaks_the_client_is_passed_over(vhost: str, monkeypatch: pytest.MonkeyPatch):
    """A timestamp in microseconds is a year that Python does not have: the client library gives the link up."""
    events = [event(1), event(2)]
    async with opened(vhost) as bus:
        await bus.publish(events[0])
        await _publish_with_timestamp(vhost, EVENTS, "image.deleted", encode(event(99)), 1_736_942_400_000_000)
        await bus.publish(events[1])
        reading = Reading(bus)
        await reading.saw(2)
        await reading.stop()

    assert reading.ids == [each.id for each in events]


async def test_an_order_with_odd_properties_is_a_dead_letter_or_an_order_like_any(vhost: str):
    worker = Recorder()
    good = order()
    async with opened(vhost) as bus, bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        connection = await aiormq.connect(vhost)
        channel = await connection.channel()
        for odd in ({"priority": 200}, {"headers": {"failures": "many", "x-death": 5, "reason": bytearray(b"\xff")}}):
            properties = aiormq.spec.Basic.Properties(**odd)
            queue = ROUTES[WorkQueue.GENERATE].queue
            await channel.basic_publish(encode(order()), routing_key=queue, properties=properties)
            await channel.basic_publish(b"poison", routing_key=queue, properties=properties)
        await connection.close()
        await bus.send(good)
        await worker.saw(3)
        await until(lambda: _letters(bus, 2))

    assert worker.ids[-1] == good.id


async def test_a_message_that_the_broker_gave_up_is_a_dead_letter_of_its_queue(vhost: str):
    """One worker after the other has died of it."""
    async with opened(vhost) as bus:
        await bus.send(order("image-1"))
        for _ in range(21):  # 4.3 does not count what is given back, only what a worker lost
            await until(lambda: _lost(vhost, ROUTES[WorkQueue.GENERATE].queue))
        await until(lambda: _letters(bus, 1))
        (letter,) = await bus.dead_letters(10)
        undertaker = Recorder()
        async with bus.work(WorkQueue.DEAD, undertaker, concurrency=1):
            await undertaker.saw(1)

    assert (letter.reason, letter.queue) == ("delivery_limit", "image.generate")
    assert letter.died_at is not None
    assert undertaker.seen == [letter]


async def test_the_dead_letters_bear_being_looked_at_more_often_than_the_limit(vhost: str):
    async with opened(vhost) as bus:
        async with raw_channel(vhost) as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"x"), DEAD_QUEUE)
        for _ in range(25):
            assert len(await bus.dead_letters(10)) == 1


async def test_row_17_a_token_armed_by_a_clock_that_is_ahead_fires_by_the_brokers(vhost: str):
    worker = Recorder()
    async with (
        opened(vhost, clock=ManualClock(now() + timedelta(hours=1))) as ahead,
        opened(vhost) as bus,
        bus.work(WorkQueue.PURGE, worker, concurrency=1),
    ):
        began = now()
        await ahead.arm("timer.purge", interval_s=0.1)
        await worker.saw(1)

    assert began - timedelta(seconds=1) <= worker.seen[0].time <= now()


# ---------------------------------------------------------------- the end


async def test_nothing_is_left_running_when_a_bus_is_closed(vhost: str):
    before = asyncio.all_tasks()
    async with (
        opened(vhost) as bus,
        bus.work(WorkQueue.GENERATE, Recorder(), concurrency=1),
        bus.listen(frozenset({"a.b"}), print),
    ):
        reading = bus.read(Since(EPOCH))
        await bus.publish(ApiJoined(id="1", source="test", time=now()))
        await anext(reading)
        await reading.aclose()
    await until(lambda: asyncio.all_tasks() == before)


async def test_an_error_in_the_block_comes_out_as_it_is(vhost: str):
    with pytest.raises(ZeroDivisionError):
        async with opened(vhost):
            raise ZeroDivisionError


async def test_closing_takes_no_longer_when_the_link_is_dead(vhost: str):
    async with proxy_before(vhost) as (proxy, url):
        async with opened(url) as bus, bus.work(WorkQueue.GENERATE, Recorder(), concurrency=1):
            proxy.silence()
            began = time.monotonic()
        took_s = time.monotonic() - began
        proxy.resume()

    assert took_s < 15


async def _waiting(bus: RabbitBus, count: int) -> bool:
    return await bus.waiting(WorkQueue.GENERATE) == count


async def _letters(bus: RabbitBus, count: int) -> bool:
    return len(await bus.dead_letters(10)) >= count


async def _sent(bus: RabbitBus) -> bool:
    try:
        await bus.send(order())
    except Unavailable:
        return False
    return True


async def _lost(url: str, name: str) -> bool:
    """Take a message and go, as a worker that dies; True as well when none is left."""
    async with raw_channel(url) as channel:
        queue = await channel.get_queue(name)
        return await queue.get(fail=False) is not None or queue.declaration_result.message_count == 0


def _pending(bus: RabbitBus) -> int:
    return sum(len(taker._pending) for taker in bus._takers if isinstance(taker, Worker))


async def _publish_with_timestamp(url: str, exchange: str, key: str, body: bytes, timestamp: int) -> None:
    """As a stranger may whose clock counts microseconds: no client library of Python lets one write it."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    properties = aiormq.spec.Basic.Properties(delivery_mode=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pamqp.encode.METHODS, "timestamp", lambda value: int(value).to_bytes(8, "big"))
        properties.timestamp = timestamp  # type: ignore[assignment]  # what it would not take
        await channel.basic_publish(body, exchange=exchange, routing_key=key, properties=properties)
    await connection.close()
