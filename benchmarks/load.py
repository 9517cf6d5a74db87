"""Load of one front end: requests by REST, completion times by websocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

ORDER = json.dumps(
    {"prompt": "a lighthouse at dusk, a stormy sea", "width": 1024, "height": 1024, "steps": 20, "seed": 7}
).encode()
HEADERS = {"Content-Type": "application/json", "Prefer": "respond-async"}
FINAL = ("image.completed", "image.failed", "image.cancelled")


class OrderLoad:
    """Times by image: start of its POST, its 202 answer, its completed event."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, socket: aiohttp.ClientWebSocketResponse, body: bytes = ORDER
    ) -> None:
        self._http = http
        self._body = body
        self._url = url
        self._socket = socket
        self.began: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.failed = 0
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async for message in self._socket:
            now = time.perf_counter()
            if b"image.completed" not in message.data.encode() and "image.failed" not in message.data:
                continue
            frame = json.loads(message.data)
            if frame.get("type") in FINAL:
                self.ended[frame["subject"]] = now
                self.failed += frame["type"] != "image.completed"
                self._news.set()

    async def order(self) -> None:
        began = time.perf_counter()
        async with self._http.post(f"{self._url}/v1/images/generations", data=self._body, headers=HEADERS) as response:
            body = await response.read()
            if response.status != 202:
                raise RuntimeError(f"{response.status}: {body[:300]!r}")
        image_id = json.loads(body)["id"]
        self.began[image_id] = began
        self.answered[image_id] = time.perf_counter()

    async def flood(self, count: int, *, at_once: int = 16) -> float:
        """Request `count` images as fast as possible; seconds from the first POST to the last completed event."""
        numbers = iter(range(count))
        began = time.perf_counter()

        async def one_after_another() -> None:
            for _ in numbers:
                await self.order()

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_another())
        await self._all_ended()
        return max(self.ended.values()) - began

    async def drip(self, count: int, *, per_s: float) -> list[float]:
        """Request at a steady rate; seconds of each image from its POST to its completed event."""
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, start + number / per_s - time.perf_counter()))
                group.create_task(self.order())
        await self._all_ended()
        return [self.ended[image] - began for image, began in self.began.items()]

    def forget(self) -> None:
        for times in (self.began, self.answered, self.ended):
            times.clear()

    async def _all_ended(self, limit_s: float = 600) -> None:
        async with asyncio.timeout(limit_s):
            while not self.began.keys() <= self.ended.keys():
                self._news.clear()
                await self._news.wait()
        if self.failed:
            raise RuntimeError(f"{self.failed} images failed")


@asynccontextmanager
async def load(url: str, body: bytes = ORDER) -> AsyncIterator[OrderLoad]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        http.ws_connect(f"{url}/ws", max_msg_size=0) as socket,
    ):
        await socket.receive()  # hello
        found = OrderLoad(http, url, socket, body)
        listening = asyncio.create_task(found.listen())
        try:
            yield found
        finally:
            listening.cancel()
