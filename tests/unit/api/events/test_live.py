"""The events that a replica sends to a client, live or after a resume."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager

import pytest

from common.bus.memory import MemoryBus
from common.bus.port import After, Since
from common.domain import transitions, turns
from common.domain.errors import CursorGone
from common.runtime.clock import ManualClock, SystemClock
from services.api.events.client import Client
from services.api.events.live import LiveEvents
from services.api.events.stream import EventStream
from tests.making import an_event_factory, an_image

CLOCK = SystemClock()


class HeldLog:
    """A bus whose log is read only while the gate is open, and can be cut. Reads after a cursor are not affected."""

    def __init__(self, bus: MemoryBus) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.cut = asyncio.Event()
        self.publish = bus.publish
        self._bus = bus

    async def read(self, start):
        async with aclosing(self._bus.read(start)) as entries:
            async for entry in entries:
                if not isinstance(start, After):
                    await self.gate.wait()
                    if self.cut.is_set():
                        self.cut.clear()
                        raise CursorGone("cut")
                yield entry


class RecordingSocket:
    """Keeps the frames that are sent to a client."""

    def __init__(self) -> None:
        self.frames: list[dict] = []
        self.news = asyncio.Event()

    async def send_str(self, text: str) -> None:
        self.frames.append(json.loads(text))
        self.news.set()

    async def received(self, event_id: str) -> None:
        async with asyncio.timeout(30):
            while all(frame.get("id") != event_id for frame in self.frames):
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def replica(bus, *, clock=CLOCK):
    live = LiveEvents(bus, clock, backlog=1000, lookback_s=600)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(live.run())
        await live.ready()
        yield live
        reading.cancel()


@asynccontextmanager
async def resumed(live: LiveEvents, after: str):
    """The socket of a client that resumes with a cursor."""

    async def snapshot(kind: str, cursor: str) -> str:
        return json.dumps({"type": kind, "cursor": cursor})

    socket = RecordingSocket()
    client = Client(socket, None, buffer=100)  # type: ignore[arg-type]
    stream = EventStream(live, client, owner="local", snapshot=snapshot)
    showing = asyncio.create_task(stream.resume(after))
    try:
        yield socket
    finally:
        showing.cancel()
        await asyncio.wait([showing])


def a_last_event(revision: int = 2, clock=CLOCK):
    image = an_image(created_at=clock.now(), revision=revision - 1)
    return an_event_factory(clock).changed(transitions.cancel(image, now=clock.now()), "image.cancelled")


async def publish_end(bus, socket: RecordingSocket, clock):
    """Publish an image's last event, and wait until the client has received it and all events before it."""
    end = a_last_event(clock=clock)
    await bus.publish(end)
    await socket.received(end.id)
    return end


async def test_a_lagging_replica_shows_no_event_before_the_cursor():
    async with MemoryBus() as bus:
        held = HeldLog(bus)
        async with replica(held) as behind, replica(bus) as ahead:
            held.gate.clear()
            first, second = a_last_event(), a_last_event()
            await bus.publish(first)
            await bus.publish(a_last_event())
            await ahead.caught_up()
            cursor = ahead.cursor
            await bus.publish(first)  # as if its worker was killed before it noted the publish
            await bus.publish(second)

            async with resumed(behind, cursor) as socket:
                held.gate.set()
                await socket.received(second.id)

            assert [frame.get("id") for frame in socket.frames] == [None, second.id]


async def test_a_preview_is_sent_live_and_not_kept():
    async with MemoryBus() as bus, replica(bus) as live:
        cursor = live.cursor
        received: list[dict] = []
        async with live.subscribed("local", lambda shown: received.append(json.loads(shown.frame))):
            progress = an_event_factory(CLOCK).progressed(
                an_image(), step=1, steps=4, seconds_left=2, preview="data:image/webp;base64,UklGRg=="
            )
            await bus.publish(progress)
            await live.caught_up()

        async with resumed(live, cursor) as socket:
            await socket.received(progress.id)

        assert [frame["data"]["preview"] for frame in received] == ["data:image/webp;base64,UklGRg=="]
        (kept,) = [frame for frame in socket.frames if frame.get("id") == progress.id]
        assert kept == {**received[0], "data": {**received[0]["data"], "preview": None}}


async def test_events_stay_available_after_the_log_was_cut():
    async with MemoryBus() as bus:
        held = HeldLog(bus)
        async with replica(held) as live:
            first, second, third = a_last_event(), a_last_event(), a_last_event()
            await bus.publish(first)
            await live.caught_up()
            cursor = live.cursor
            received: list[str] = []
            async with live.subscribed("local", lambda shown: received.append(shown.event.id)):
                await bus.publish(second)
                await live.caught_up()
                held.cut.set()
                await bus.publish(third)
                await live.caught_up()

            async with resumed(live, cursor) as socket:
                await socket.received(third.id)

            assert received == [second.id, third.id]
            assert [frame.get("id") for frame in socket.frames] == [None, second.id, third.id]


@pytest.mark.parametrize(
    ("cursor_s", "repeat_s"), [(0, 300), (0, 900), (900, 900)], ids=["both before", "cursor before", "both after"]
)
async def test_a_repeat_of_an_event_before_the_start_is_not_shown(cursor_s, repeat_s):
    """The replica starts at 1000 s, and reads from 400 s on."""
    clock = ManualClock()
    async with MemoryBus(clock=clock) as bus:
        first = a_last_event(clock=clock)
        await bus.publish(first)
        clock.advance(cursor_s)
        async with replica(bus, clock=clock) as earlier:
            cursor = earlier.cursor
        clock.advance(repeat_s - cursor_s)
        await bus.publish(first)
        clock.advance(1000 - repeat_s)

        async with replica(bus, clock=clock) as live, resumed(live, cursor) as socket:
            second = await publish_end(bus, socket, clock)

        assert [frame.get("id") for frame in socket.frames] == [None, second.id]


async def test_a_repeated_event_from_before_the_start_is_shown_once():
    clock = ManualClock()
    async with MemoryBus(clock=clock) as bus:
        async with replica(bus, clock=clock) as earlier:
            cursor = earlier.cursor
        first = a_last_event(clock=clock)
        await bus.publish(first)
        await bus.publish(first)
        clock.advance(1000)
        await bus.publish(first)

        async with replica(bus, clock=clock) as live, resumed(live, cursor) as socket:
            second = await publish_end(bus, socket, clock)

        assert [frame.get("id") for frame in socket.frames] == [None, first.id, second.id]


async def test_a_repeat_over_a_cut_of_the_log_is_not_shown():
    clock = ManualClock()
    async with MemoryBus(clock=clock) as bus:
        held = HeldLog(bus)
        async with replica(held, clock=clock) as live:
            held.gate.clear()
            first = a_last_event(clock=clock)
            await bus.publish(first)
            async with replica(bus, clock=clock) as other:
                cursor = other.cursor
            clock.advance(1000)
            await bus.publish(first)
            held.cut.set()
            held.gate.set()

            async with resumed(live, cursor) as socket:
                second = await publish_end(bus, socket, clock)

        assert [frame.get("id") for frame in socket.frames] == [None, second.id]


async def test_the_turn_of_an_old_request_needs_no_look_back():
    """An image is requested, a replica starts a day later, and then the image has its turn."""
    clock = ManualClock()

    class WatchedLog(HeldLog):
        def read(self, start):
            looks.append(start)
            return super().read(start)

    looks: list = []
    waiting = turns.waiting(an_image(created_at=clock.now()), place=None)
    async with MemoryBus(clock=clock) as bus:
        clock.advance(86_400)
        async with replica(WatchedLog(bus), clock=clock) as live:
            clock.advance(60)
            dispatched = transitions.dispatch(waiting, slot="local:0", now=clock.now())
            await bus.publish(an_event_factory(clock).changed(dispatched, "image.queued"))
            await live.caught_up()

    assert len(looks) == 1


async def test_a_replica_looks_back_once_for_many_late_events():
    clock = ManualClock()
    looks: list = []

    class WatchedBuffer(HeldLog):
        def read(self, start):
            looks.append(start)
            return super().read(start)

    async with MemoryBus(clock=clock) as bus:
        late = [a_last_event(clock=clock) for _ in range(20)]
        clock.advance(1000)
        async with replica(WatchedBuffer(bus), clock=clock) as live:
            for event in late:
                await bus.publish(event)
            await live.caught_up()

            assert len(looks) == 2
            assert all(isinstance(start, Since) for start in looks)
