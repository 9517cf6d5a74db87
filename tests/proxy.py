"""A TCP proxy that can slow, reset, silence and refuse connections, as a network does.

async with proxy_to("127.0.0.1", 5672) as proxy:
    client = await connect(f"amqp://guest:guest@{proxy.address}/")
    proxy.silence()
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

from tests.servers.process import free_ports

CHUNK_BYTES = 65536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST, as a machine that lost its state does


class Proxy:
    """Forwards to `target`; made by `proxy_to` or `proxy_before`. Its port never changes."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = target_host, target_port
        self.port = free_ports(1)[0]
        self.delay_s = 0.0  # each chunk of at most 64 KiB waits this long, in both directions
        self.bytes_up = 0
        self.bytes_down = 0
        self._is_silent = False
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """The number of open connections, silent ones included."""
        return len(self._lines)

    async def listen(self) -> None:
        """Accept connections again after `refuse`."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Reset every connection and refuse new ones (ECONNREFUSED), as when the process has ended."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection; new ones pass."""
        for line in list(self._lines):
            line.cut()

    def silence(self) -> None:
        """Let no byte and no end of a connection pass, on old and new ones, as a firewall that drops packets."""
        self._is_silent = True
        self.half_open()

    def half_open(self) -> None:
        """Silence existing connections only; new ones pass, as after a failover."""
        for line in self._lines:
            line.passes.clear()

    def resume(self) -> None:
        """End every silence; bytes held back are delivered."""
        self._is_silent = False
        for line in self._lines:
            line.passes.set()

    async def close(self) -> None:
        self.refuse()
        await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        line = _Line(writer)
        self._lines.add(line)
        if not self._is_silent:
            line.passes.set()
        try:
            target_reader, target_writer = await asyncio.open_connection(*self.target)
        except OSError:
            line.cut()
        else:
            line.add(target_writer)
            await asyncio.gather(
                self._pump(reader, target_writer, line, is_up=True),
                self._pump(target_reader, writer, line, is_up=False),
            )
        finally:
            self._lines.discard(line)
            await line.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: "_Line", *, is_up: bool
    ) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                await asyncio.sleep(self.delay_s)
                await line.passes.wait()
                writer.write(chunk)
                await writer.drain()
                if is_up:
                    self.bytes_up += len(chunk)
                else:
                    self.bytes_down += len(chunk)
            await line.passes.wait()
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()
        except OSError:  # one side was reset: reset the other side once the connection passes bytes again
            await line.passes.wait()
            line.cut()


class _Line:
    """One connection through the proxy: the client's end, and the target's end once it is open."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.passes = asyncio.Event()
        self._writers = [client]
        self._is_cut = False

    def add(self, target: asyncio.StreamWriter) -> None:
        self._writers.append(target)
        if self._is_cut:  # cut while the target was being reached
            self.cut()

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            with contextlib.suppress(OSError):  # already closed
                end: socket.socket = writer.get_extra_info("socket")
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()
        self.passes.set()  # let the pumps see the end

    async def close(self) -> None:
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxy_to(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy that accepts connections for `host:port`."""
    proxy = Proxy(host, port)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.close()


@contextlib.asynccontextmanager
async def proxy_before(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy in front of the server of `url`, with the same URL through the proxy."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"a URL with a host and a port was expected, not {url}")
    async with proxy_to(parts.hostname, parts.port) as proxy:
        credentials, at, _ = parts.netloc.rpartition("@")
        yield proxy, urlunsplit(parts._replace(netloc=f"{credentials}{at}{proxy.address}"))
