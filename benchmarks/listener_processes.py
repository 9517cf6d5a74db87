"""The processes that listen to the live stream in benchmarks. They get their events from here, too."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import servers
from benchmarks.filled_store import OWNER, an_image
from common.bus.port import Bus
from common.domain.images import Status
from common.domain.views import ImagePresenter
from common.messages import Event, ImageChanged, ImageProgressed, Progress

PREVIEW = "data:image/jpeg;base64," + "A" * 20_000  # 256 pixels of a noisy picture


class ListenerProcess:
    """A process of `benchmarks.listeners`, controlled by lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the listeners have ended")
        found: dict[str, Any] = json.loads(line)
        return found

    async def do(self, line: str) -> dict[str, Any]:
        await self.send(line)
        return await self.answer()


@asynccontextmanager
async def listener_process(port: int) -> AsyncIterator[ListenerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.listeners",
        "127.0.0.1",
        str(port),
        cwd=servers.ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield ListenerProcess(process)
    finally:
        process.kill()
        await process.wait()


def an_event(owner: str = OWNER) -> ImageChanged:
    """The event of a completed image as a generator publishes it; its id ends in its creation time."""
    now = datetime.now(UTC)
    image = an_image(Status.COMPLETED, now)
    return ImageChanged(
        id=f"{image.id}.{time.monotonic_ns()}",
        source="generator",
        type="image.completed",
        subject=image.id,
        time=now,
        owner=owner,
        revision=image.revision,
        attempt=1,
        data=ImagePresenter("/media/", timedelta(days=30)).view(image),
    )


def a_preview(owner: str = OWNER) -> ImageProgressed:
    """Progress with a preview, each of another image, so that none takes the place of another."""
    now = datetime.now(UTC)
    image = an_image(Status.COMPLETED, now)
    return ImageProgressed(
        id=f"{image.id}.{time.monotonic_ns()}",
        source="generator",
        subject=image.id,
        time=now,
        owner=owner,
        revision=image.revision,
        attempt=1,
        data=Progress(id=image.id, step=1, steps=4, seconds_left=2, preview=PREVIEW),
    )


async def publish_events(
    bus: Bus, count: int, *, per_s: float, event: Callable[[int], Event] = lambda _number: an_event()
) -> None:
    start = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, start + number / per_s - time.perf_counter()))
        await bus.publish(event(number))
