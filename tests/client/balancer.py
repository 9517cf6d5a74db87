"""A TCP load balancer that loses connections by chance, before several replicas of a server."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence


class Balancer:
    """Each connection goes to a replica that accepts it; `lifetime` says how many bytes of answers it survives."""

    def __init__(self, ports: Sequence[int], lifetime: Callable[[], int | None], *, seed: int = 0) -> None:
        self.url = ""
        self.cuts = 0
        self._ports = list(ports)
        self._lifetime = lifetime
        self._dice = random.Random(seed)
        self._tasks: set[asyncio.Task] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Balancer"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        ends = [writer]
        with contextlib.suppress(asyncio.CancelledError):
            try:
                with contextlib.suppress(OSError):
                    target_reader, target_writer = await self._target()
                    ends.append(target_writer)
                    await self._forward((reader, writer), (target_reader, target_writer))
            finally:
                for end in ends:
                    end.transport.abort()

    async def _target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for port in self._dice.sample(self._ports, len(self._ports)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise ConnectionRefusedError("no replica accepts a connection")

    async def _forward(self, client, target) -> None:
        up = asyncio.create_task(self._pump(client[0], target[1], None))
        down = asyncio.create_task(self._pump(target[0], client[1], self._lifetime()))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
        while chunk := await reader.read(65536):
            part = chunk if left is None else chunk[:left]
            writer.write(part)
            await writer.drain()
            if left is not None:
                left -= len(part)
                if left <= 0:
                    self.cuts += 1
                    return
