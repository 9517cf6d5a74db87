"""Orders of many owners to several apis, at a steady rate, with the times of their events."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.fleet.slots import SteadyWindow
from benchmarks.fleet.stub import SIDE
from tests.security import callers

OWNERS = 20
FILLERS = 16  # requests at once, while slots are filled
BODY = json.dumps({"prompt": "a lighthouse at dusk", "width": SIDE, "height": SIDE, "steps": 20, "seed": 7}).encode()


def headers_of(owner: str) -> dict[str, str]:
    token = callers.token(owner, exp=int(time.time()) + 7200)
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Prefer": "respond-async"}


class OwnersLoad:
    """Times by image, of `time.monotonic`: start of its POST, its started event, its final event."""

    def __init__(self, http: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._http = http
        self._callers = itertools.cycle(
            [(urls[number % len(urls)], headers_of(f"owner-{number}")) for number in range(OWNERS)]
        )
        self.began: dict[str, float] = {}
        self.started: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.ends = 0  # events, also repeated ones
        self.failed = 0
        self.per_s = 0.0
        self._has_rate = asyncio.Event()
        self.posts: set[asyncio.Task[None]] = set()

    async def listen(self, url: str, owner: str) -> None:
        async with self._http.ws_connect(f"{url}/ws", max_msg_size=0, headers=headers_of(owner)) as socket:
            async for message in socket:
                now = time.monotonic()
                if '"image.' not in message.data:
                    continue
                frame = json.loads(message.data)
                kind, image = frame.get("type"), frame.get("subject")
                if kind == "image.started":
                    self.started.setdefault(image, now)
                elif kind in {"image.completed", "image.failed", "image.cancelled"}:
                    self.ended.setdefault(image, now)
                    self.ends += 1
                    self.failed += kind != "image.completed"
        raise RuntimeError(f"the websocket of {owner} was closed: {socket.close_code}")

    async def order(self) -> None:
        url, headers = next(self._callers)
        began = time.monotonic()
        async with self._http.post(f"{url}/v1/images/generations", data=BODY, headers=headers) as response:
            body = await response.read()
            if response.status != 202:
                raise RuntimeError(f"{response.status}: {body[:300]!r}")
        self.began[json.loads(body)["id"]] = began

    async def fill(self, count: int) -> None:
        """Order so many as fast as possible."""
        numbers = iter(range(count))

        async def one_after_another() -> None:
            for _ in numbers:
                await self.order()

        await asyncio.gather(*(one_after_another() for _ in range(FILLERS)))

    def set_rate(self, per_s: float) -> None:
        """Order at this rate from now on."""
        self.per_s = per_s
        (self._has_rate.set if per_s else self._has_rate.clear)()

    async def run(self) -> None:
        """Order at the rate until cancelled; an answer is not waited for."""
        due = 0.0
        while True:
            await self._has_rate.wait()
            due = max(due + 1 / (self.per_s or 1), time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())
            if self.per_s:
                task = asyncio.create_task(self.order())
                self.posts.add(task)
                task.add_done_callback(self._on_posted)

    def _on_posted(self, task: asyncio.Task[None]) -> None:
        self.posts.discard(task)
        if not task.cancelled() and (error := task.exception()):
            print(f"an order failed: {error!r}", flush=True)
            self.failed += 1

    def waits(self, window: SteadyWindow) -> list[float]:
        """From POST to started of the orders of this time; one that has not been started has waited until now."""
        now = time.monotonic()
        return [
            self.started.get(image, now) - began
            for image, began in self.began.items()
            if window.begin_s <= began < window.end_s
        ]

    async def all_ended(self, limit_s: float) -> None:
        async with asyncio.timeout(limit_s):
            while self.posts or not self.began.keys() <= self.ended.keys():
                await asyncio.sleep(0.1)


@asynccontextmanager
async def owners_load(urls: Sequence[str]) -> AsyncIterator[OwnersLoad]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        load = OwnersLoad(http, urls)
        tasks = [
            asyncio.create_task(load.listen(urls[number % len(urls)], f"owner-{number}")) for number in range(OWNERS)
        ]
        tasks.append(asyncio.create_task(load.run()))
        await asyncio.sleep(0.5)  # until the sockets are open
        try:
            yield load
        finally:
            load.set_rate(0)
            tasks += load.posts
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
