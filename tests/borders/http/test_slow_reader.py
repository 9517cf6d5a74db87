"""A client that reads slowly is served, with the newest: the ends of images never wait for previews."""

import asyncio
import json
import socket
import struct
import time
from contextlib import suppress

import pytest

from common.domain.images import Status
from tests.borders.http.conftest import CLOCK
from tests.making import an_event_factory, an_image
from tests.waiting import until

pytestmark = pytest.mark.border(rule="D9")
IMAGES = 10
PREVIEW = "data:image/webp;base64," + "A" * 21_000  # as large as they get


class SlowReader:
    """A websocket client by hand that reads so many bytes in a second, and answers pings when it has read them."""

    def __init__(self, *, bytes_per_s: int, answers: bool = True, every_s: float = 0.1) -> None:
        self.frames: list[dict] = []
        self.pong_s: list[float] = []  # how long an answer to a ping of ours took
        self.closed: int | None = None
        self.is_open = True
        self._bytes = int(bytes_per_s * every_s)
        self._every_s = every_s
        self._answers = answers
        self._buffer = b""
        self._pinged_s = 0.0

    async def run(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", port)) as self._connection:
            self._connection.setblocking(False)
            head = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            key = f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n"
            await loop.sock_sendall(self._connection, (head + key).encode())
            while self.is_open:
                await asyncio.sleep(self._every_s)
                try:
                    read = self._connection.recv(self._bytes)
                except BlockingIOError:
                    continue
                except ConnectionError:
                    read = b""
                self.is_open = bool(read)
                self._buffer += read
                await self._parse(loop)

    async def ping(self) -> None:
        self._pinged_s = time.monotonic()
        await asyncio.get_running_loop().sock_sendall(self._connection, b"\x89\x80\0\0\0\0")

    async def _parse(self, loop) -> None:
        if self._buffer.startswith(b"HTTP/"):
            _, found, rest = self._buffer.partition(b"\r\n\r\n")
            self._buffer = rest if found else self._buffer
        while (frame := self._next()) is not None:
            kind, payload = frame
            if kind == 1:
                self.frames.append(json.loads(payload))
            elif kind == 8:
                self.closed = struct.unpack("!H", payload[:2])[0]
            elif kind == 9 and self._answers:
                with suppress(ConnectionError):
                    await loop.sock_sendall(self._connection, b"\x8a\x80\0\0\0\0")
            elif kind == 10:
                self.pong_s.append(time.monotonic() - self._pinged_s)

    def _next(self) -> tuple[int, bytes] | None:
        if len(self._buffer) < 2 or self._buffer.startswith(b"HTTP/"):
            return None
        size, start = self._buffer[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(self._buffer[2:start])
        if len(self._buffer) < start + size:
            return None
        kind, payload = self._buffer[0] & 0xF, self._buffer[start : start + size]
        self._buffer = self._buffer[start + size :]
        return kind, payload

    @property
    def ends(self) -> list[str]:
        return [frame["subject"] for frame in self.frames if frame["type"] == "image.completed"]


async def paint(bus, images, *, rounds: int) -> None:
    """Publish the progress of all images, with previews, then their ends."""
    events = an_event_factory(CLOCK)
    for step in range(1, rounds + 1):
        for image in images:
            progress = events.progressed(image, step=step, steps=rounds, seconds_left=1.0, preview=PREVIEW)
            await bus.publish(progress)
        await asyncio.sleep(0.25)
    for image in images:
        done = image.model_copy(update={"status": Status.COMPLETED, "revision": 3})
        await bus.publish(events.changed(done, "image.completed"))


async def watch(websocket, cursors: list[str], ends: list[float]) -> None:
    """Collect the cursors as a fast client gets them, and when the images end for it."""
    async for message in websocket:
        frame = json.loads(message.data)
        if "cursor" in frame:
            cursors.append(frame["cursor"])
        if frame["type"] == "image.completed":
            ends.append(time.monotonic())


@pytest.mark.long
@pytest.mark.parametrize(
    ("bytes_per_s", "every_s", "heartbeat"),
    [(20_000, 0.1, "3"), (60_000, 0.1, "2"), (30_000, 2, "3"), (200_000, 0.1, "1")],
    ids=["20 kB/s", "60 kB/s", "in bursts", "200 kB/s"],
)
async def test_a_slow_reader_gets_all_ends_and_stays_open(serve, bytes_per_s, every_s, heartbeat):
    """Ten images are painted with 800 kB of previews a second, for 8 s; their ends come within a few seconds.

    A fast client of the same owner has them at once.
    """
    images = [an_image(status=Status.RUNNING, revision=2, attempts=1) for _ in range(IMAGES)]
    async with serve(WEBSOCKET_HEARTBEAT=heartbeat) as api, api.http.ws_connect(f"{api.url}/ws") as fast:
        in_order: list[str] = []
        fast_ends: list[float] = []
        watching = asyncio.create_task(watch(fast, in_order, fast_ends))
        reader = SlowReader(bytes_per_s=bytes_per_s, every_s=every_s)
        reading = asyncio.create_task(reader.run(api.port))
        await until(lambda: reader.frames)
        painting = asyncio.create_task(paint(api.bus, images, rounds=32))
        await until(lambda: len(reader.frames) > 2)
        await reader.ping()
        await painting
        ended_s = time.monotonic()
        await until(lambda: len(reader.ends) == IMAGES or not reader.is_open, limit_s=40)
        waited_s = time.monotonic() - ended_s
        still_open = reader.is_open
        reading.cancel()
        watching.cancel()

    assert still_open
    assert len(fast_ends) == IMAGES
    assert fast_ends[-1] - ended_s < 2
    assert sorted(reader.ends) == sorted(image.id for image in images)
    assert waited_s < 15, "only what was in the kernel's buffers came before the ends"
    assert len(reader.pong_s) == 1
    assert reader.pong_s[0] < 15
    positions = [in_order.index(frame["cursor"]) for frame in reader.frames if frame["type"].startswith("image.")]
    assert positions == sorted(positions), "a client resumes from its last cursor"


async def test_a_client_that_does_not_answer_is_closed_with_a_code(serve):
    async with serve(WEBSOCKET_HEARTBEAT="0.5") as api:
        reader = SlowReader(bytes_per_s=50_000, answers=False)
        reading = asyncio.create_task(reader.run(api.port))
        await until(lambda: reader.closed is not None or not reader.is_open)
        reading.cancel()

    assert reader.closed == 1013


@pytest.mark.long
async def test_a_reader_that_cannot_follow_is_closed_with_a_code(serve):
    """More lasting events than the buffer holds: the close frame arrives behind what was sent before."""
    images = [an_image() for _ in range(1500)]
    events = an_event_factory(CLOCK)
    async with serve(WEBSOCKET_BUFFER="8") as api:
        reader = SlowReader(bytes_per_s=40_000)
        reading = asyncio.create_task(reader.run(api.port))
        await until(lambda: reader.frames)
        for image in images:
            if reader.is_open and reader.closed is None:
                await api.bus.publish(events.changed(image, "image.queued"))
        await until(lambda: not reader.is_open, limit_s=40)
        reading.cancel()

    assert reader.closed == 1013
