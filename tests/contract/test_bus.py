"""The contract of `common.bus.port`, over every adapter."""

import asyncio
import time
from datetime import timedelta

import pytest

from common.bus.connect import open_bus
from common.bus.memory import MemoryBus
from common.bus.port import After, Bus, DeadLetter, Done, Reject, Retry, Since, WorkQueue
from common.clock import SystemClock
from common.errors import CursorGone, Invalid, Misconfigured, Unavailable
from common.messages import GenerateImage, Tick, encode
from common.settings import Settings
from tests.contract.bus_support import (
    LIMIT_S,
    RETRY_DELAYS,
    Recorder,
    System,
    cancel,
    event,
    memory_system,
    now,
    order,
    rabbit_system,
    report,
    some,
    until,
)

EPOCH = now() - timedelta(minutes=1)


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
async def system(request: pytest.FixtureRequest):
    opened = memory_system() if request.param == "memory" else rabbit_system(request.getfixturevalue("vhost"))
    async with opened as system:
        yield system


@pytest.fixture
async def bus(system: System) -> Bus:
    return await system.process()


# ---------------------------------------------------------------- work


async def test_send_reaches_exactly_one_of_several_workers(system: System):
    buses = [await system.process() for _ in range(3)]
    workers = [Recorder() for _ in buses]
    orders = [order() for _ in range(30)]

    async with (
        buses[0].work(WorkQueue.GENERATE, workers[0], concurrency=2),
        buses[1].work(WorkQueue.GENERATE, workers[1], concurrency=2),
        buses[2].work(WorkQueue.GENERATE, workers[2], concurrency=2),
    ):
        await asyncio.gather(*(buses[0].send(each) for each in orders))
        await until(lambda: sum(len(worker.seen) for worker in workers) >= 30)

    assert sorted(name for worker in workers for name in worker.ids) == sorted(each.id for each in orders)


async def test_a_worker_handles_messages_in_the_order_they_came(bus: Bus):
    orders = [order() for _ in range(20)]
    for each in orders:
        await bus.send(each)
    worker = Recorder()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await worker.saw(20)

    assert worker.ids == [each.id for each in orders]


async def test_a_worker_handles_as_many_at_once_as_it_may(bus: Bus):
    worker = Recorder()
    worker.gate.clear()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=3) as taking:
        await asyncio.gather(*(bus.send(order()) for _ in range(6)))
        await worker.saw(3)
        in_hand = taking.in_hand
        worker.gate.set()
        await worker.saw(6)

    assert (in_hand, worker.most_at_once) == (3, 3)


async def test_done_forgets_the_message(bus: Bus):
    worker = Recorder(Done())
    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1) as taking:
        await bus.send(order())
        await worker.saw(1)
        await until(lambda: taking.in_hand == 0)

    later = Recorder()
    sent = order()
    async with bus.work(WorkQueue.GENERATE, later, concurrency=1):
        await bus.send(sent)
        await later.saw(1)

    assert later.ids == [sent.id]
    assert await bus.dead_letters(10) == []


async def test_retry_delivers_again_after_the_delay(bus: Bus):
    worker = Recorder(Retry(RETRY_DELAYS[1]))
    sent = order()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(sent)
        await worker.saw(1)
        began = time.monotonic()
        await worker.saw(2)
        took_s = time.monotonic() - began

    assert worker.ids == [sent.id, sent.id]
    assert took_s > RETRY_DELAYS[1] * 0.8


async def test_retry_holds_no_slot_meanwhile(bus: Bus):
    worker = Recorder(Retry(RETRY_DELAYS[1]))
    first, second = order(), order()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(first)
        await bus.send(second)
        await worker.saw(3)

    assert worker.ids == [first.id, second.id, first.id]


@pytest.mark.parametrize("queue", [WorkQueue.CANCEL, WorkQueue.PURGE, WorkQueue.DEAD])
async def test_retry_comes_back_to_its_own_queue(system: System, bus: Bus, queue: WorkQueue):
    worker = Recorder(Retry(RETRY_DELAYS[0]))
    letter = order()

    async with bus.work(queue, worker, concurrency=1):
        match queue:
            case WorkQueue.CANCEL:
                await bus.send(cancel("image-1"))
            case WorkQueue.PURGE:
                await bus.tick(Tick(id="tick-1", source="test", type="timer.purge", time=now()))
            case _:
                await system.inject(WorkQueue.GENERATE, encode(letter)[:-1])
                async with bus.work(WorkQueue.GENERATE, Recorder(), concurrency=1):
                    await worker.saw(1)
        await worker.saw(2)

    assert worker.seen[0] == worker.seen[1]


async def test_a_handler_that_raises_is_retried(bus: Bus, caplog: pytest.LogCaptureFixture):
    tried = Recorder()

    async def handler(message) -> Done:
        await tried(message)
        if len(tried.seen) == 1:
            raise ValueError("broken")
        return Done()

    async with bus.work(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(order("image-1"))
        await tried.saw(2)

    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]


async def test_a_cancellation_out_of_a_library_is_a_failure_as_any(bus: Bus):
    tried = Recorder()

    async def handler(message) -> Done:
        await tried(message)
        if len(tried.seen) == 1:
            raise asyncio.CancelledError
        return Done()

    async with bus.work(WorkQueue.GENERATE, handler, concurrency=1) as taking:
        await bus.send(order())
        await tried.saw(2)
        assert await taking.drain(LIMIT_S)

    assert len(tried.seen) == 2


async def test_a_handler_that_keeps_raising_makes_a_dead_letter(system: System, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("common.bus.handling.MAX_FAILURES", 3)
    bus = await system.process()
    tried = Recorder()

    async def handler(message) -> Done:
        await tried(message)
        raise ValueError("broken")

    async with bus.work(WorkQueue.GENERATE, handler, concurrency=1):
        await bus.send(order())
        await until(lambda: _has_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert len(tried.seen) == 3
    assert letter.reason == "the handler failed 3 times in a row, last with ValueError"


async def test_one_subject_in_hand_shares_the_outcome(bus: Bus):
    worker = Recorder()
    worker.gate.clear()
    marker = order("image-2")

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=2) as taking:
        await bus.send(order("image-1"))
        await worker.saw(1)
        await bus.send(order("image-1"))
        await bus.send(marker)  # comes after the second: when it is there, the second has been seen
        await worker.saw(2)
        worker.gate.set()
        assert await taking.drain(LIMIT_S)

    assert [message.subject for message in worker.seen] == ["image-1", "image-2"]
    assert await bus.waiting(WorkQueue.GENERATE) == 0


async def test_different_queues_may_hold_one_subject_at_once(bus: Bus):
    generating, cancelling = Recorder(), Recorder()
    generating.gate.clear()

    async with (
        bus.work(WorkQueue.GENERATE, generating, concurrency=1),
        bus.work(WorkQueue.CANCEL, cancelling, concurrency=1),
    ):
        await bus.send(order("image-1"))
        await generating.saw(1)
        await bus.send(cancel("image-1"))
        await cancelling.saw(1)

    assert cancelling.seen[0].subject == "image-1"


async def test_leaving_gives_what_is_in_hand_to_another(system: System):
    leaving, staying = await system.process(), await system.process()
    first, second = Recorder(), Recorder()
    first.gate.clear()
    orders = [order(), order()]

    async with leaving.work(WorkQueue.GENERATE, first, concurrency=2):
        for each in orders:
            await leaving.send(each)
        await first.saw(2)
    async with staying.work(WorkQueue.GENERATE, second, concurrency=1):
        await second.saw(2)

    assert first.running == 0
    assert second.ids == [each.id for each in orders]


async def test_pause_leaves_new_work_to_others_and_resume_takes_again(system: System):
    pausing, other = await system.process(), await system.process()
    first, second = Recorder(), Recorder()

    async with pausing.work(WorkQueue.GENERATE, first, concurrency=1) as taking:
        await taking.pause()
        await pausing.send(order("image-1"))
        async with other.work(WorkQueue.GENERATE, second, concurrency=1) as other_taking:
            await second.saw(1)
            await other_taking.drain(LIMIT_S)
        await taking.resume()
        await pausing.send(order("image-2"))
        await first.saw(1)

    assert [message.subject for message in second.seen] == ["image-1"]
    assert [message.subject for message in first.seen] == ["image-2"]


async def test_pause_lets_what_is_in_hand_go_on(bus: Bus):
    worker = Recorder(Reject("handled"))
    worker.gate.clear()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1) as taking:
        await bus.send(order())
        await worker.saw(1)
        await taking.pause()
        worker.gate.set()
        await until(lambda: _has_letters(bus))

    assert [letter.reason for letter in await bus.dead_letters(10)] == ["handled"]


async def test_drain_waits_for_what_is_in_hand_and_takes_nothing_new(bus: Bus):
    worker = Recorder()
    worker.gate.clear()
    first, second = order(), order()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1) as taking:
        await bus.send(first)
        await worker.saw(1)
        in_time = await taking.drain(0.01)
        await bus.send(second)
        worker.gate.set()
        drained = await taking.drain(LIMIT_S)

    assert (in_time, drained) == (False, True)
    assert worker.ids == [first.id]
    assert await bus.waiting(WorkQueue.GENERATE) == 1


async def test_a_delayed_command_comes_after_its_delay_and_waits_meanwhile(bus: Bus):
    worker = Recorder()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        began = time.monotonic()
        await bus.send(order(), delay_s=RETRY_DELAYS[1])
        await until(lambda: _waiting(bus, 1))
        await worker.saw(1)
        took_s = time.monotonic() - began

    assert took_s > RETRY_DELAYS[1] * 0.8


async def test_waiting_counts_what_is_queued(bus: Bus):
    for _ in range(3):
        await bus.send(order())

    await until(lambda: _waiting(bus, 3))


async def test_a_message_too_large_is_refused_before_it_is_sent(bus: Bus):
    with pytest.raises(Invalid, match="at most 65536"):
        await bus.send(order("x" * 70_000))


async def test_an_odd_id_is_carried_whole(bus: Bus):
    worker = Recorder()
    sent = GenerateImage(id="é" * 300, source="s" * 300, subject="", time=now())

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(sent)
        await worker.saw(1)

    assert worker.ids == ["é" * 300]


# ---------------------------------------------------------------- dead letters


async def test_reject_makes_a_dead_letter_that_says_why(bus: Bus):
    sent = order()
    async with bus.work(WorkQueue.GENERATE, Recorder(Reject("no such model")), concurrency=1):
        began = now() - timedelta(seconds=5)
        await bus.send(sent)
        await until(lambda: _has_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert letter == DeadLetter(letter.id, encode(sent), "no such model", "image.generate", letter.died_at)
    assert letter.died_at is not None
    assert began < letter.died_at < now() + timedelta(seconds=5)


async def test_a_dead_letter_is_worked_as_well(bus: Bus):
    undertaker = Recorder()
    async with (
        bus.work(WorkQueue.GENERATE, Recorder(Reject("no")), concurrency=1),
        bus.work(WorkQueue.DEAD, undertaker, concurrency=1),
    ):
        await bus.send(order())
        await undertaker.saw(1)

    assert undertaker.seen == await bus.dead_letters(10)


async def test_looking_at_dead_letters_leaves_them_in_order(bus: Bus):
    reasons = [f"reason {number}" for number in range(5)]
    async with bus.work(WorkQueue.GENERATE, Recorder(*map(Reject, reasons)), concurrency=1):
        for _ in reasons:
            await bus.send(order())
        await until(lambda: _has_letters(bus, 5))

    assert [letter.reason for letter in await bus.dead_letters(3)] == reasons[:3]
    assert [letter.reason for letter in await bus.dead_letters(10)] == reasons


async def test_redrive_puts_it_back_into_its_queue(bus: Bus):
    worker = Recorder(Reject("not now"))
    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await bus.send(order())
        await until(lambda: _has_letters(bus))
        (letter,) = await bus.dead_letters(10)

        assert await bus.redrive(letter.id)
        await worker.saw(2)

    assert worker.seen[0] == worker.seen[1]
    assert await bus.dead_letters(10) == []
    assert not await bus.redrive(letter.id)


async def test_drop_forgets_one(bus: Bus):
    async with bus.work(WorkQueue.GENERATE, Recorder(Reject("a"), Reject("b"), Reject("c")), concurrency=1):
        for _ in range(3):
            await bus.send(order())
        await until(lambda: _has_letters(bus, 3))
    _, second, _ = await bus.dead_letters(10)

    assert await bus.drop(second.id)
    assert not await bus.drop(second.id)
    assert [letter.reason for letter in await bus.dead_letters(10)] == ["a", "c"]


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 60_000, b'{"type": "image.generate"}', b"null"]
)
async def test_what_does_not_parse_is_a_dead_letter_and_harms_nothing_else(system: System, bus: Bus, body: bytes):
    worker = Recorder()
    good = order()

    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await system.inject(WorkQueue.GENERATE, body)
        await bus.send(good)
        await worker.saw(1)
        await until(lambda: _has_letters(bus))

    assert worker.ids == [good.id]
    assert [letter.body for letter in await bus.dead_letters(10)] == [body]


async def test_a_message_of_another_queue_is_a_dead_letter(system: System, bus: Bus):
    worker = Recorder()
    async with bus.work(WorkQueue.GENERATE, worker, concurrency=1):
        await system.inject(WorkQueue.GENERATE, encode(cancel("image-1")))
        await until(lambda: _has_letters(bus))

    (letter,) = await bus.dead_letters(10)
    assert worker.seen == []
    assert letter.reason == "a message of type image.cancel is nothing for image.generate"


# ---------------------------------------------------------------- events


async def test_every_reader_gets_every_event_in_order(system: System):
    buses = [await system.process() for _ in range(2)]
    events = [event(number) for number in range(20)]
    for each in events[:10]:
        await buses[0].publish(each)
    readers = [asyncio.create_task(some(bus, Since(EPOCH), 20)) for bus in buses for _ in range(2)]
    for each in events[10:]:
        await buses[0].publish(each)

    for found in await asyncio.gather(*readers):
        assert [logged.event.id for logged in found] == [each.id for each in events]


async def test_a_cursor_resumes_after_its_event_on_any_process(system: System):
    first, second = await system.process(), await system.process()
    events = [event(number) for number in range(6)]
    for each in events:
        await first.publish(each)
    seen = await some(first, Since(EPOCH), 6)

    for place in range(5):
        found = await some(second, After(seen[place].cursor), 5 - place)
        assert found == seen[place + 1 :]


async def test_a_reader_waits_at_the_end_for_more(bus: Bus):
    await bus.publish(event(1))
    (last,) = await some(bus, Since(EPOCH), 1)
    reading = asyncio.create_task(some(bus, After(last.cursor), 1))
    later = event(2)

    await bus.publish(later)

    (found,) = await reading
    assert found.event.id == later.id


async def test_a_reader_of_an_empty_log_waits(bus: Bus):
    reading = asyncio.create_task(some(bus, Since(now()), 1))
    first = event(1)
    await bus.publish(first)

    (found,) = await reading
    assert found.event.id == first.id


@pytest.mark.parametrize("cursor", ["", "x", "0", "0.someone-else", "-1.x", "²5.x", "9" * 30 + ".x", "1.2.3", "0."])
async def test_a_cursor_that_names_no_event_is_gone(bus: Bus, cursor: str):
    await bus.publish(event(1))
    await bus.publish(event(2))

    with pytest.raises(CursorGone):
        await some(bus, After(cursor), 1)


async def test_a_listener_hears_its_types_from_now_on(system: System):
    speaking, listening = await system.process(), await system.process()
    await speaking.publish(event(1))
    heard: list = []
    wanted = [event(2), event(3)]

    async with listening.listen(frozenset({"image.deleted"}), heard.append):
        await speaking.publish(report())
        for each in wanted:
            await speaking.publish(each)
        await until(lambda: len(heard) >= 2)
    await speaking.publish(event(4))
    await some(speaking, Since(EPOCH), 5)

    assert [each.id for each in heard] == [each.id for each in wanted]


async def test_a_listener_that_raises_hears_the_next(bus: Bus):
    heard: list = []

    def hear(each) -> None:
        heard.append(each)
        if len(heard) == 1:
            raise ValueError("broken")

    async with bus.listen(frozenset({"image.deleted"}), hear):
        await bus.publish(event(1))
        await bus.publish(event(2))
        await until(lambda: len(heard) == 2)


# ---------------------------------------------------------------- timers


async def test_a_token_is_armed_once_and_again_after_it_fired(bus: Bus):
    worker = Recorder()
    async with bus.work(WorkQueue.SWEEP, worker, concurrency=1):
        armed = [await bus.arm("timer.sweep", interval_s=0.3) for _ in range(3)]
        await worker.saw(1)
        armed.append(await bus.arm("timer.sweep", interval_s=0.3))
        await worker.saw(2)

    assert armed == [True, False, False, True]
    assert [tick.token for tick in worker.seen] == [True, True]


async def test_timers_have_a_token_each(bus: Bus):
    assert await bus.arm("timer.sweep", interval_s=30)
    assert await bus.arm("timer.purge", interval_s=30)


async def test_several_janitors_tick_once_an_interval(system: System):
    interval_s = 0.4
    buses = [await system.process() for _ in range(3)]
    ticked = Recorder()

    def janitor(bus: Bus):
        async def tick(message) -> Done:
            await bus.arm("timer.reconcile", interval_s=interval_s)
            await ticked(message)
            return Done()

        return tick

    began = time.monotonic()
    async with (
        buses[0].work(WorkQueue.RECONCILE, janitor(buses[0]), concurrency=1),
        buses[1].work(WorkQueue.RECONCILE, janitor(buses[1]), concurrency=1),
        buses[2].work(WorkQueue.RECONCILE, janitor(buses[2]), concurrency=1),
    ):
        for bus in buses:
            await bus.arm("timer.reconcile", interval_s=interval_s)
        await ticked.saw(4)
        took_s = time.monotonic() - began

    assert took_s > 4 * interval_s * 0.9
    assert len(set(ticked.ids)) == len(ticked.ids)


async def test_row_17_a_tokens_tick_says_when_it_fired_and_not_when_it_was_armed(bus: Bus):
    worker = Recorder()
    async with bus.work(WorkQueue.PURGE, worker, concurrency=1):
        armed_at = now()
        await bus.arm("timer.purge", interval_s=1.3)
        await worker.saw(1)

    # a broker tells the second, and no more
    assert armed_at + timedelta(seconds=0.3) <= worker.seen[0].time <= now()


async def test_an_operators_tick_passes_beside_the_token(bus: Bus):
    worker = Recorder()
    mine = Tick(id="tick-1", source="test", type="timer.purge", time=now())
    async with bus.work(WorkQueue.PURGE, worker, concurrency=1):
        await bus.arm("timer.purge", interval_s=0.5)
        await bus.tick(mine)
        await worker.saw(2)

    assert [(tick.id == mine.id, tick.token) for tick in worker.seen] == [(True, False), (False, True)]


async def test_a_bus_at_work_has_no_trouble(bus: Bus):
    async with bus.work(WorkQueue.GENERATE, Recorder(), concurrency=1), bus.listen(frozenset({"image.deleted"}), print):
        await bus.publish(event(1))
        await some(bus, Since(EPOCH), 1)

        assert bus.trouble == ""


# ---------------------------------------------------------------- in memory only


async def test_a_cursor_of_another_run_is_gone_in_memory():
    async with MemoryBus() as earlier, MemoryBus() as later:
        for bus in (earlier, later):
            await bus.publish(event(1))
            await bus.publish(event(2))
        (first,) = await some(earlier, Since(EPOCH), 1)

        with pytest.raises(CursorGone):
            await some(later, After(first.cursor), 1)


async def test_a_trimmed_log_and_a_reader_left_behind_are_told_so_in_memory():
    async with MemoryBus(log_size=3) as bus:
        await bus.publish(event(0))
        reading = bus.read(Since(EPOCH))
        first = await anext(reading)
        for number in range(4):
            await bus.publish(event(number))

        with pytest.raises(CursorGone):
            await anext(reading)
        with pytest.raises(CursorGone):
            await some(bus, After(first.cursor), 1)


async def test_a_closed_bus_takes_nothing_and_ends_its_readers_in_memory():
    async with MemoryBus() as bus:
        reading = asyncio.create_task(some(bus, Since(EPOCH), 1))
        await bus.arm("timer.purge", interval_s=60)
        await asyncio.sleep(0)  # the reader waits
    with pytest.raises(Unavailable):
        await reading
    with pytest.raises(Unavailable):
        await bus.send(order())
    assert bus.trouble == "the bus is closed"


# ---------------------------------------------------------------- which adapter


async def test_the_scheme_of_the_url_chooses_the_adapter():
    async with open_bus(Settings(bus_url="memory://"), name="test", clock=SystemClock()) as bus:
        assert isinstance(bus, MemoryBus)


@pytest.mark.parametrize("url", ["", "http://localhost", "kafka://localhost"])
async def test_another_scheme_is_refused_by_name(url: str):
    with pytest.raises(Misconfigured, match=r"BUS_URL: .* is no bus"):
        open_bus(Settings(bus_url=url), name="test", clock=SystemClock())


@pytest.mark.parametrize("url", ["amqp://", "amqp:///vhost", "amqp://guest:secret@host:port/", "amqp://a:secret@b:0/"])
async def test_a_url_without_an_address_is_refused_and_not_shown(url: str):
    with pytest.raises(Misconfigured, match="BUS_URL") as raised:
        async with open_bus(Settings(bus_url=url), name="test", clock=SystemClock()):
            pytest.fail("it opened")
    assert "secret" not in raised.value.detail


async def _has_letters(bus: Bus, count: int = 1) -> bool:
    return len(await bus.dead_letters(10)) >= count


async def _waiting(bus: Bus, count: int) -> bool:
    return await bus.waiting(WorkQueue.GENERATE) == count
