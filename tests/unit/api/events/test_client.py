"""The websockets of an owner: their writers, their queues, their number."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from common.domain.errors import LimitReached
from services.api.events.client import Client, Clients


class FakeSocket:
    """Keeps the frames that are sent to it."""

    def __init__(self) -> None:
        self.frames: list[str] = []

    async def send_str(self, frame: str) -> None:
        self.frames.append(frame)


def a_client(socket: Any, *, buffer: int = 8) -> Client:
    return Client(socket, None, buffer=buffer)


def an_event(cursor: str) -> Any:
    event = SimpleNamespace(subject="image")
    return SimpleNamespace(cursor=cursor, event=event, is_progress=False, key=cursor, frame=f"frame {cursor}")


async def test_a_slow_client_receives_the_newest_positions_only():
    socket = FakeSocket()
    client = a_client(socket)

    for number in range(20):
        client.on_queue_positions(f"frame {number}")
    writing = asyncio.create_task(client.write())
    await asyncio.sleep(0)
    writing.cancel()

    assert socket.frames == ["frame 19"]
    assert not client.too_slow.is_set()


async def test_a_client_is_too_slow_when_its_queue_overflows():
    client = a_client(FakeSocket(), buffer=2)

    for cursor in ("1", "2"):
        client.on_event(an_event(cursor))
    fits = not client.too_slow.is_set()
    client.on_event(an_event("3"))

    assert fits
    assert client.too_slow.is_set()


async def test_an_owner_may_open_as_many_websockets_as_the_limit():
    clients = Clients(max_per_owner=1)

    with clients.opened("ada", a_client(FakeSocket())):
        with clients.opened("bob", a_client(FakeSocket())):
            pass
        with pytest.raises(LimitReached) as refused, clients.opened("ada", a_client(FakeSocket())):
            pass
    with clients.opened("ada", a_client(FakeSocket())):
        pass

    assert refused.value.code == "websocket_limit"
