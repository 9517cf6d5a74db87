"""What a replica knows of the log, and what it shows to a client that comes back."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace

from common import moves
from common.bus.memory import MemoryBus
from common.bus.port import After
from common.clock import SystemClock
from common.errors import CursorGone
from common.outbox import Outbox
from services.api.live import LiveEvents
from services.api.websocket import Client, _catch_up
from tests.making import an_image

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
async def replica(bus):
    live = LiveEvents(bus, SimpleNamespace(), CLOCK, backlog=1000, lookback_s=600, poll_s=1)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(live.run())
        await live.ready()
        yield live
        reading.cancel()


@asynccontextmanager
async def resumed(live: LiveEvents, after: str):
    """A client that comes back with a cursor, and what it is sent."""

    async def history(*_arguments, **_named):
        return []

    call = SimpleNamespace(owner="local", context=SimpleNamespace(live=live, store=SimpleNamespace(history=history)))
    socket = Socket()
    client = Client(socket, None, buffer=100)  # type: ignore[arg-type]
    showing = asyncio.create_task(_catch_up(client, call, after))  # type: ignore[arg-type]
    try:
        yield socket
    finally:
        showing.cancel()
        await asyncio.wait([showing])


def an_end(revision: int = 2):
    outbox = Outbox(
        bus=None,  # type: ignore[arg-type]
        store=None,  # type: ignore[arg-type]
        clock=CLOCK,
        source="test",
        media_url="/media/",
        retention=timedelta(days=30),
    )
    image = an_image(created_at=CLOCK.now(), revision=revision - 1)
    return outbox.event(moves.cancel(image, now=CLOCK.now()), "image.cancelled")


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


async def test_a_log_that_was_cut_under_the_reader_is_read_again_and_still_there_to_resume():
    async with MemoryBus() as bus:
        held = HeldBack(bus)
        async with replica(held) as live:
            first, second, third = an_end(), an_end(), an_end()
            await bus.publish(first)
            await live.caught_up()
            cursor = live.cursor
            told: list[str] = []
            async with live.listening("local", lambda shown: told.append(shown.event.id)):
                await bus.publish(second)
                await live.caught_up()
                held.cut.set()
                await bus.publish(third)
                await live.caught_up()

            async with resumed(live, cursor) as socket:
                await socket.saw(third.id)

            assert told == [second.id, third.id]
            assert [frame.get("id") for frame in socket.frames] == [None, second.id, third.id]
