"""What a replica knows of the log, and what it shows to a client that comes back."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace

import pytest

from common.bus.memory import MemoryBus
from common.bus.port import After, Since
from common.domain import transitions
from common.domain.errors import CursorGone
from common.runtime.clock import ManualClock, SystemClock
from services.api.events.client import Client
from services.api.events.live import LiveEvents
from services.api.events.stream import EventStream
from tests.making import an_event_factory, an_image

CLOCK = SystemClock()


class HeldBack:
    """A bus whose log a replica reads only while the gate is open, and may lose at any time; others read on."""

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


class Socket:
    """Keeps what is sent to a client."""

    def __init__(self) -> None:
        self.frames: list[dict] = []
        self.news = asyncio.Event()

    async def send_str(self, text: str) -> None:
        self.frames.append(json.loads(text))
        self.news.set()

    async def saw(self, event_id: str) -> None:
        async with asyncio.timeout(5):
            while all(frame.get("id") != event_id for frame in self.frames):
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def replica(bus, *, clock=CLOCK):
    live = LiveEvents(bus, SimpleNamespace(), clock, backlog=1000, lookback_s=600, poll_s=1)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(live.run())
        await live.ready()
        yield live
        reading.cancel()


@asynccontextmanager
async def resumed(live: LiveEvents, after: str):
    """A client that comes back with a cursor, and what it is sent."""

    async def snapshot(kind: str, cursor: str) -> str:
        return json.dumps({"type": kind, "cursor": cursor})

    socket = Socket()
    client = Client(socket, None, buffer=100)  # type: ignore[arg-type]
    stream = EventStream(live, client, owner="local", snapshot=snapshot)
    showing = asyncio.create_task(stream.resume(after))
    try:
        yield socket
    finally:
        showing.cancel()
        await asyncio.wait([showing])


def an_end(revision: int = 2, clock=CLOCK):
    image = an_image(created_at=clock.now(), revision=revision - 1)
    return an_event_factory(clock).changed(transitions.cancel(image, now=clock.now()), "image.cancelled")


async def next_end(bus, socket: Socket, clock):
    """An image's end that comes now; once a client has seen it, all that is before it has come."""
    end = an_end(clock=clock)
    await bus.publish(end)
    await socket.saw(end.id)
    return end


async def test_a_replica_that_lags_behind_the_cursor_shows_no_repeat_of_what_came_before_it():
    async with MemoryBus() as bus:
        held = HeldBack(bus)
        async with replica(held) as behind, replica(bus) as ahead:
            held.gate.clear()
            first, second = an_end(), an_end()
            await bus.publish(first)
            await bus.publish(an_end())
            await ahead.caught_up()
            cursor = ahead.cursor
            await bus.publish(first)  # as when its worker was killed before it could note that it was told
            await bus.publish(second)

            async with resumed(behind, cursor) as socket:
                held.gate.set()
                await socket.saw(second.id)

            assert [frame.get("id") for frame in socket.frames] == [None, second.id]


async def test_a_preview_is_shown_to_who_listens_and_not_kept_for_who_resumes():
    async with MemoryBus() as bus, replica(bus) as live:
        cursor = live.cursor
        told: list[dict] = []
        async with live.subscribed("local", lambda shown: told.append(json.loads(shown.frame))):
            progress = an_event_factory(CLOCK).progressed(
                an_image(), step=1, steps=4, seconds_left=2, preview="data:image/webp;base64,UklGRg=="
            )
            await bus.publish(progress)
            await live.caught_up()

        async with resumed(live, cursor) as socket:
            await socket.saw(progress.id)

        assert [frame["data"]["preview"] for frame in told] == ["data:image/webp;base64,UklGRg=="]
        (kept,) = [frame for frame in socket.frames if frame.get("id") == progress.id]
        assert kept == {**told[0], "data": {**told[0]["data"], "preview": None}}


async def test_a_log_that_was_cut_under_the_reader_is_read_again_and_still_there_to_resume():
    async with MemoryBus() as bus:
        held = HeldBack(bus)
        async with replica(held) as live:
            first, second, third = an_end(), an_end(), an_end()
            await bus.publish(first)
            await live.caught_up()
            cursor = live.cursor
            told: list[str] = []
            async with live.subscribed("local", lambda shown: told.append(shown.event.id)):
                await bus.publish(second)
                await live.caught_up()
                held.cut.set()
                await bus.publish(third)
                await live.caught_up()

            async with resumed(live, cursor) as socket:
                await socket.saw(third.id)

            assert told == [second.id, third.id]
            assert [frame.get("id") for frame in socket.frames] == [None, second.id, third.id]


@pytest.mark.parametrize(
    ("cursor_s", "repeat_s"), [(0, 300), (0, 900), (900, 900)], ids=["both before", "cursor before", "both after"]
)
async def test_a_repeat_of_what_came_before_a_replica_began_to_read_is_not_shown(cursor_s, repeat_s):
    """The replica begins at 1000 s, and reads from 400 s on."""
    clock = ManualClock()
    async with MemoryBus(clock=clock) as bus:
        first = an_end(clock=clock)
        await bus.publish(first)
        clock.advance(cursor_s)
        async with replica(bus, clock=clock) as earlier:
            cursor = earlier.cursor
        clock.advance(repeat_s - cursor_s)
        await bus.publish(first)
        clock.advance(1000 - repeat_s)

        async with replica(bus, clock=clock) as live, resumed(live, cursor) as socket:
            second = await next_end(bus, socket, clock)

        assert [frame.get("id") for frame in socket.frames] == [None, second.id]


async def test_what_came_before_a_replica_began_to_read_is_shown_once_to_who_has_not_seen_it():
    clock = ManualClock()
    async with MemoryBus(clock=clock) as bus:
        async with replica(bus, clock=clock) as earlier:
            cursor = earlier.cursor
        first = an_end(clock=clock)
        await bus.publish(first)
        await bus.publish(first)
        clock.advance(1000)
        await bus.publish(first)

        async with replica(bus, clock=clock) as live, resumed(live, cursor) as socket:
            second = await next_end(bus, socket, clock)

        assert [frame.get("id") for frame in socket.frames] == [None, first.id, second.id]


async def test_a_repeat_over_a_cut_of_the_log_is_not_shown():
    clock = ManualClock()
    async with MemoryBus(clock=clock) as bus:
        held = HeldBack(bus)
        async with replica(held, clock=clock) as live:
            held.gate.clear()
            first = an_end(clock=clock)
            await bus.publish(first)
            async with replica(bus, clock=clock) as other:
                cursor = other.cursor
            clock.advance(1000)
            await bus.publish(first)
            held.cut.set()
            held.gate.set()

            async with resumed(live, cursor) as socket:
                second = await next_end(bus, socket, clock)

        assert [frame.get("id") for frame in socket.frames] == [None, second.id]


async def test_a_replica_looks_back_once_and_not_for_each_late_event():
    clock = ManualClock()
    looks: list = []

    class Watched(HeldBack):
        def read(self, start):
            looks.append(start)
            return super().read(start)

    async with MemoryBus(clock=clock) as bus:
        late = [an_end(clock=clock) for _ in range(20)]
        clock.advance(1000)
        async with replica(Watched(bus), clock=clock) as live:
            for event in late:
                await bus.publish(event)
            await live.caught_up()

            assert len(looks) == 2
            assert all(isinstance(start, Since) for start in looks)
