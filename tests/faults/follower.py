"""A websocket client that disconnects by chance, resumes on any replica, counts the events shown."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.faults.checker import TERMINAL, ShownEvents


class Follower:
    """`leaves` is the chance of disconnecting after a frame; `run` is the task that reads."""

    def __init__(self, http: aiohttp.ClientSession, urls: list[str], dice: random.Random, *, leaves: float) -> None:
        self.shown = ShownEvents()
        self.reconnects = -1
        self.ready = asyncio.Event()
        self.final: dict[str, asyncio.Event] = {}
        self._http = http
        self._urls = urls
        self._dice = dice
        self._leaves = leaves
        self._cursor: str | None = None

    def until_final(self, image_id: str) -> asyncio.Event:
        return self.final.setdefault(image_id, asyncio.Event())

    async def run(self) -> None:
        while True:
            self.reconnects += 1
            try:
                await self._follow(self._dice.choice(self._urls))
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.1)

    async def _follow(self, url: str) -> None:
        query = {"after": self._cursor} if self._cursor else {}
        async with self._http.ws_connect(f"{url}/ws", params=query, heartbeat=3) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                self._on_frame(json.loads(message.data))
                if self._dice.random() < self._leaves:
                    return

    def _on_frame(self, frame: dict) -> None:
        self._cursor = frame.get("cursor", self._cursor)  # a frame of queue positions has none
        if frame["type"] == "hello":
            self.ready.set()
        elif frame["type"] == "gap":
            self.shown.gaps += 1
        elif frame["type"] in TERMINAL or frame["type"] == "image.deleted":
            self.shown.events[frame["subject"], frame["type"]] += 1
            self.until_final(frame["subject"]).set()


@asynccontextmanager
async def following(
    http: aiohttp.ClientSession, urls: list[str], *, leaves: float = 0.0, seed: int = 0
) -> AsyncIterator[Follower]:
    """A running follower, connected before the block begins."""
    follower = Follower(http, urls, random.Random(seed), leaves=leaves)
    task = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(60):
            await follower.ready.wait()
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])
