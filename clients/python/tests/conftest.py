"""A world of the test for operations: it answers what they ask for, and keeps what that was."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from darkroom_client.core import Core
from darkroom_client.effects import Answer, Connect, Disconnect, Effect, Operation, Receive, Send, Sleep, Socket, T
from darkroom_client.retries import Retries

URL = "https://darkroom.example"
IMAGE = {"id": "0193a1b2-0000-7000-8000-000000000001", "status": "queued", "prompt": "a lighthouse"}
DONE = {**IMAGE, "status": "completed", "imageUrl": "/media/picture.png?signature=s", "format": "png"}

Reply = Any  # an answer, an error, a frame, or a function that makes one of the effect


class World:
    """Replies in turn; sleeping takes no time, but moves the clock."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.effects: list[Effect] = []
        self.replies: list[Reply] = []

    def run(self, operation: Operation[T]) -> T:
        try:
            effect = next(operation)
            while True:
                try:
                    reply = self._reply(effect)
                except Exception as error:  # noqa: BLE001  # the operation decides
                    effect = operation.throw(error)
                else:
                    effect = operation.send(reply)
        except StopIteration as stop:
            return stop.value

    def _reply(self, effect: Effect) -> Any:
        self.effects.append(effect)
        if isinstance(effect, Sleep):
            self.now_s += effect.seconds
            return None
        if isinstance(effect, Disconnect):
            return None
        reply = self.replies.pop(0)
        if callable(reply):
            reply = reply(effect)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(effect, Connect):
            return Socket(reply)
        if isinstance(effect, Receive):
            if reply is None:
                self.now_s += effect.timeout_s or 0
            return json.dumps(reply) if isinstance(reply, dict) else reply
        status, body, *headers = reply
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Answer(
            effect.url, status, {"content-type": "application/json", **(headers[0] if headers else {})}, content
        )

    @property
    def sent(self) -> list[Send]:
        return [effect for effect in self.effects if isinstance(effect, Send)]

    @property
    def pauses(self) -> list[float]:
        return [effect.seconds for effect in self.effects if isinstance(effect, Sleep)]

    @property
    def sockets(self) -> list[str]:
        return [effect.url for effect in self.effects if isinstance(effect, Connect)]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def core(world, monkeypatch) -> Core:
    retries = Retries(delays_s=(1, 2, 4), jitter=0, longest_wait_s=60, patience_s=60)
    core = Core.of(URL, token="secret", headers=None, retries=retries, handshake_s=10, poll_s=2)
    object.__setattr__(core.orders, "now", lambda: world.now_s)
    return core


@pytest.fixture
def problem() -> Callable[..., tuple[Any, ...]]:
    def problem(status: int, code: str, **more: Any) -> tuple[Any, ...]:
        headers = {"retry-after": more.pop("after")} if "after" in more else {}
        return status, {"status": status, "code": code, "detail": "because", **more}, headers

    return problem


@pytest.fixture
def image() -> dict[str, Any]:
    return dict(IMAGE)


@pytest.fixture
def done() -> dict[str, Any]:
    return dict(DONE)
