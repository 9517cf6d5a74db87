"""Frames that go straight to the kernel, as long as it takes them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from services.api.events.client import MAX_WRITE, Client
from services.api.events.flushing import PER_PASS, FlushQueue
from services.api.events.frames import text_frame


class FakeTransport:
    """Takes whole writes until `is_full`; then it keeps them in its buffer."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_full = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def get_write_buffer_size(self) -> int:
        return 100 if self.is_full else 0

    def is_closing(self) -> bool:
        return False


class SlowSocket:
    """Sends at the speed of the client: not before `takes` is set."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.takes = asyncio.Event()
        self.closed = False

    async def send_str(self, frame: str) -> None:
        await self.takes.wait()
        self.frames.append(frame)


def an_event(cursor: str, *, text: str = "", is_progress: bool = False) -> Any:
    frame = text or f"frame {cursor}"
    key = "progress image" if is_progress else cursor
    return SimpleNamespace(key=key, is_progress=is_progress, frame=frame, wire_frame=text_frame(frame))


@pytest.fixture
async def sides():
    """A client that keeps up, with its transport and its socket."""
    transport, socket = FakeTransport(), SlowSocket()
    client = Client(socket, transport, buffer=8)  # type: ignore[arg-type]
    writing = asyncio.create_task(client.write())
    await asyncio.sleep(0)
    yield client, transport, socket
    writing.cancel()
    await asyncio.wait([writing])


async def passes(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, b"\x81\x00"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"), (65_535, b"\x81\x7e\xff\xff")],
)
def test_a_frame_begins_with_its_length(size, head):
    assert text_frame("x" * size) == head + b"x" * size


def test_the_length_of_a_long_frame_is_that_of_its_bytes():
    frame = text_frame("é" * 40_000)

    assert frame[:10] == b"\x81\x7f" + (80_000).to_bytes(8)
    assert frame[10:].decode() == "é" * 40_000


async def test_events_of_one_turn_leave_in_one_write(sides):
    client, transport, socket = sides

    client.on_event(an_event("1"))
    client.on_event(an_event("2"))
    client.on_queue_positions("places")
    await passes()

    assert transport.writes == [text_frame("frame 1") + text_frame("frame 2") + text_frame("places")]
    assert socket.frames == []


async def test_no_write_is_larger_than_the_kernel_takes(sides):
    client, transport, _ = sides
    text = "x" * (MAX_WRITE // 3)

    for cursor in "1234":
        client.on_event(an_event(cursor, text=text))
    await passes()

    assert transport.writes == [text_frame(text) * 2, text_frame(text) * 2]


async def test_a_client_that_does_not_read_is_left_to_its_writer(sides):
    """The order stays; when the client has caught up, frames go to the kernel again."""
    client, transport, socket = sides
    client.on_event(an_event("1"))
    await passes()
    transport.is_full = True
    client.on_event(an_event("2"))
    client.on_event(an_event("3"))
    await passes()

    transport.is_full = False
    client.on_event(an_event("4"))
    socket.takes.set()
    await passes()
    client.on_event(an_event("5"))
    await passes()

    assert socket.frames == ["frame 2", "frame 3", "frame 4"]
    assert transport.writes == [text_frame("frame 1"), text_frame("frame 5")]


async def test_a_large_frame_is_sent_by_the_writer(sides):
    client, transport, socket = sides
    socket.takes.set()
    large = "x" * (MAX_WRITE + 1)

    client.on_event(an_event("1", text=large, is_progress=True))
    client.on_event(an_event("2"))
    await passes()

    assert socket.frames == [large, "frame 2"]
    assert transport.writes == []


async def test_previews_are_dropped_while_a_client_does_not_read(sides):
    client, _, socket = sides
    client.on_event(an_event("1", text="x" * (MAX_WRITE + 1)))
    await passes()

    client.on_event(an_event("2", is_progress=True))
    client.on_event(an_event("3", is_progress=True))
    client.on_event(an_event("4"))
    socket.takes.set()
    await passes()

    assert socket.frames[1:] == ["frame 4"]


async def test_nothing_is_sent_after_the_close(sides):
    client, transport, socket = sides
    client.on_event(an_event("1"))
    socket.closed = True

    await passes()

    assert transport.writes == []


async def test_the_turns_give_the_event_loop_back():
    """Each pass of the loop serves some; one that fails holds up no other."""
    flushes, served = FlushQueue(), []
    raised: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))

    def fail() -> None:
        raise RuntimeError("a bug")

    for number in range(PER_PASS + 1):
        flushes.add(fail if number == 1 else lambda number=number: served.append(number))  # type: ignore[misc]
    await asyncio.sleep(0)
    first = len(served)
    await passes(5)

    assert first < PER_PASS
    assert served == [0, *range(2, PER_PASS + 1)]
    assert len(raised) == 1
