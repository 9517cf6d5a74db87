"""A TCP proxy that counts HTTP requests: it can cut or silence the connection of one of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum, auto

_HEAD = b" HTTP/1.1\r\n"  # ends the request line; frames of a websocket are masked


class Cut(StrEnum):
    """When the connection is cut."""

    BEFORE_REQUEST = auto()  # the server does not see it
    BEFORE_ANSWER = auto()  # the server has handled it
    IN_ANSWER = auto()  # after the first bytes of the answer


class CuttingProxy:
    """Forwards to a port of this host; made by `before`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.requests = 0
        self.methods: list[str] = []
        self.has_cut = False
        self._target = target
        self._cut: tuple[int, Cut] | None = None
        self._silent_from: int | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, port: int) -> AsyncIterator["CuttingProxy"]:
        proxy = cls(port)
        await proxy.listen()
        try:
            yield proxy
        finally:
            await proxy.refuse()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close every connection, and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def cut_at(self, number: int, cut: Cut) -> None:
        """Cut the connection of this request, counted from now on, from 1."""
        self.requests, self.has_cut, self._cut = 0, False, (number, cut)

    def silence_from(self, number: int) -> None:
        """Let no answer to this request, and to later ones, through."""
        self.requests, self._silent_from = 0, number

    def heal(self) -> None:
        self._cut = self._silent_from = None

    def requests_of(self, method: str) -> int:
        return self.methods.count(method)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # by `refuse`, which waits for this task
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _CuttableConnection(self, [writer, target_writer])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.pump(reader, target_writer, is_up=True))
                group.create_task(connection.pump(target_reader, writer, is_up=False))
        except* OSError:
            connection.abort()
        finally:
            for each in (writer, target_writer):
                each.close()

    def cut_of(self, number: int) -> Cut | None:
        return self._cut[1] if self._cut is not None and self._cut[0] == number else None

    def is_silent(self, number: int) -> bool:
        return self._silent_from is not None and number >= self._silent_from


class _CuttableConnection:
    def __init__(self, proxy: CuttingProxy, writers: list[asyncio.StreamWriter]) -> None:
        self._proxy = proxy
        self._writers = writers
        self._number = 0  # of the newest request on this connection
        self._is_cut_after_this = False

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool) -> None:
        while chunk := await reader.read(65536):
            if is_up and _HEAD in chunk:
                self._proxy.requests += 1
                self._proxy.methods.append(chunk.split(b" ", 1)[0].decode())
                self._number = self._proxy.requests
            cut = self._proxy.cut_of(self._number)
            if cut is Cut.BEFORE_REQUEST or (cut is Cut.BEFORE_ANSWER and not is_up):
                self._proxy.has_cut = True
                self.abort()
                return
            if self._proxy.is_silent(self._number) and not is_up:
                continue
            if cut is Cut.IN_ANSWER and not is_up:
                self._proxy.has_cut = True
                writer.write(chunk[: max(1, len(chunk) // 2)])
                await writer.drain()
                self.abort()
                return
            writer.write(chunk)
            await writer.drain()
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()

    def abort(self) -> None:
        for each in self._writers:
            each.transport.abort()
