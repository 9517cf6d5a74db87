"""Many websockets in one cheap process: `python -m benchmarks.listeners HOST PORT`.

Commands are lines on standard input; each is answered with a line of JSON:

    open COUNT [CURSOR]   open COUNT sockets and wait for each hello; answers the cursor of the last
    owners FIRST COUNT    open a socket for each owner from `owner-FIRST` on, with a token
    same OWNER COUNT      open COUNT sockets of one owner, with a token
    deaf OWNER COUNT      the same, but they read nothing after their hello
    wait FRAMES           wait until each socket got FRAMES since the last `wait`; answers the time and latencies in ms
    wait-all FRAMES       wait until the sockets together got FRAMES; answers the same
    close                 close all

It reads only the headers of frames. For a few sockets of those that are opened together, it also reads the event's id,
which ends in its creation time.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import time
from collections.abc import Sequence

from tests.security import callers

SAMPLED = 50  # sockets of one command whose latencies are taken
AT_ONCE = 100  # concurrent handshakes
_MADE_AT = re.compile(rb'"id":"[0-9a-f-]{36}\.(\d+)"')
_CURSOR = re.compile(rb'"cursor": ?"([^"]*)"')
PING = 9


class ListenerSocket(asyncio.Protocol):
    """The minimum of RFC 6455 to receive from a server: unmasked frames, pings answered."""

    def __init__(self, request: bytes, *, sampled: bool) -> None:
        self.frames = 0
        self.latencies_ms: list[float] = []
        self.hello: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.enough = asyncio.Event()
        self.wanted = sys.maxsize
        self._request = request
        self._sampled = sampled
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        place = 0
        if not self._upgraded:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            if b" 101 " not in data[:20]:
                self.hello.set_exception(ConnectionError(data[:300].decode(errors="replace")))
                return
            self._upgraded, place = True, end + 4
        while len(data) - place >= 2:
            size, head = data[place + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[place + 2 : place + 4]), 4
            elif size == 127:
                size, head = int.from_bytes(data[place + 2 : place + 10]), 10
            if len(data) - place < head + size:
                break
            self._frame(data[place] & 15, data, place + head, place + head + size)
            place += head + size
        self._buffer = data[place:]

    def _frame(self, kind: int, data: bytes, start: int, end: int) -> None:
        if kind == PING:
            self.transport.write(b"\x8a" + bytes([0x80 | (end - start)]) + b"\0\0\0\0" + data[start:end])
            return
        if not self.hello.done():
            self.hello.set_result(data[start:end])
            return
        self.frames += 1
        if self._sampled and (found := _MADE_AT.search(data, start, end)):
            self.latencies_ms.append((time.monotonic_ns() - int(found[1])) / 1e6)
        if self.frames >= self.wanted:
            self.enough.set()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.hello.done():
            self.hello.set_exception(ConnectionError(f"closed before its hello: {error}"))
        self.enough.set()


class Listeners:
    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._sockets: list[ListenerSocket] = []
        self._deaf: list[ListenerSocket] = []

    async def open(self, owners: Sequence[str | None], *, after: str = "", is_deaf: bool = False) -> dict[str, object]:
        gate = asyncio.Semaphore(AT_ONCE)
        loop = asyncio.get_running_loop()
        target = f"/ws{'?after=' + after if after else ''}"
        requests = {owner: self._request(target, owner) for owner in set(owners)}
        each = max(1, len(owners) // SAMPLED)
        opened: list[ListenerSocket] = []

        async def one(number: int, owner: str | None) -> None:
            async with gate:
                sampled = not number % each
                _, socket = await loop.create_connection(
                    lambda: ListenerSocket(requests[owner], sampled=sampled), self._host, self._port
                )
                await socket.hello
                opened.append(socket)
                if is_deaf:
                    socket.transport.pause_reading()

        async with asyncio.TaskGroup() as group:
            for number, owner in enumerate(owners):
                group.create_task(one(number, owner))
        (self._deaf if is_deaf else self._sockets).extend(opened)
        found = _CURSOR.search(opened[-1].hello.result())
        return {"cursor": found[1].decode() if found else ""}

    def _request(self, target: str, owner: str | None) -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        credential = f"Authorization: Bearer {callers.token(owner)}\r\n" if owner else ""
        return (
            f"GET {target} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{credential}"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n"
        ).encode()

    async def wait_all(self, frames: int) -> dict[str, object]:
        """Wait until all sockets together have so many frames."""
        while (received := sum(socket.frames for socket in self._sockets)) < frames:
            await asyncio.sleep(0.05)
        return self._taken(time.monotonic_ns(), received)

    async def wait(self, frames: int) -> dict[str, object]:
        for socket in self._sockets:
            socket.wanted = frames
            if socket.frames >= frames:
                socket.enough.set()
        for socket in self._sockets:
            await socket.enough.wait()
        at_ns = time.monotonic_ns()
        return self._taken(at_ns, sum(socket.frames for socket in self._sockets))

    def _taken(self, at_ns: int, received: int) -> dict[str, object]:
        latencies = [each for socket in self._sockets for each in socket.latencies_ms]
        for socket in self._sockets:
            socket.frames = 0
            socket.wanted = sys.maxsize
            socket.enough.clear()
            socket.latencies_ms.clear()
        return {"at_ns": at_ns, "received": received, "latencies_ms": latencies}

    async def close(self) -> dict[str, object]:
        for socket in [*self._sockets, *self._deaf]:
            socket.transport.abort()
        self._sockets.clear()
        self._deaf.clear()
        await asyncio.sleep(0)
        return {}


async def main() -> None:
    listeners = Listeners(sys.argv[1], int(sys.argv[2]))
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        match line:
            case ["open", count, *after]:
                answer = await listeners.open([None] * int(count), after="".join(after))
            case ["owners", first, count]:
                answer = await listeners.open([f"owner-{int(first) + number}" for number in range(int(count))])
            case ["same" | "deaf" as kind, owner, count]:
                answer = await listeners.open([owner] * int(count), is_deaf=kind == "deaf")
            case ["wait-all", frames]:
                answer = await listeners.wait_all(int(frames))
            case ["wait", frames]:
                answer = await listeners.wait(int(frames))
            case _:
                answer = await listeners.close()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
