"""What an operation asks of the world: the only difference between the two clients is who does it.

    operation ──yield Send(…)──▶ client (sync or async) ──▶ server
        ▲                              │
        └────── Answer, or an error ───┘

An operation is a generator. It holds the whole logic (retries, waiting, resuming) and does no input or output itself.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")
LARGE: Final = 100_000_000  # bytes; an answer may only be larger if it is a picture


@dataclass(frozen=True, slots=True)
class Send:
    """One HTTP request; its answer is an `Answer`. Redirects are not followed."""

    method: str
    url: str
    headers: Mapping[str, str]
    max_bytes: int
    timeout_s: float  # for each read; twice this for the whole answer, unless it is a picture
    content: bytes | None = None

    @property
    def is_small(self) -> bool:
        """Whether the answer is JSON, which no server sends for long."""
        return self.max_bytes < LARGE


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of HTTP; names of headers are in lower case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type without parameters; `nothing` without a body or a type."""
        return (self.headers.get("content-type", "").partition(";")[0].strip() or "nothing") if self.body else "nothing"


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a websocket; the answer is a `Socket`."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Socket:
    """An open websocket; `connection` belongs to the client that opened it."""

    connection: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receive:
    """The next text frame; None if there is none within the time."""

    socket: Socket
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Disconnect:
    socket: Socket


class SocketClosed(Exception):
    """A websocket has ended, with a close code or without one (1006)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}".strip())
        self.code = code
        self.reason = reason


Effect = Send | Sleep | Connect | Receive | Disconnect
Operation: TypeAlias = Generator[Effect, Any, T]


def send(request: Send) -> Operation[Answer]:
    answer: Answer = yield request
    return answer


def sleep(seconds: float) -> Operation[None]:
    if seconds > 0:
        yield Sleep(seconds)


def connect(request: Connect) -> Operation[Socket]:
    socket: Socket = yield request
    return socket


def receive(socket: Socket, timeout_s: float | None) -> Operation[str | None]:
    text: str | None = yield Receive(socket, timeout_s)
    return text


def disconnect(socket: Socket) -> Operation[None]:
    yield Disconnect(socket)
