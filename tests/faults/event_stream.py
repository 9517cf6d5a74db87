"""The live stream under load, without painting: published events, many following websockets.

EventSource ── queued, started, progress, completed; some terminal events twice, as after a crash ──▶ event log
api replicas, killed now and then ──▶ followers that disconnect by chance and resume on any replica
"""

import asyncio
import base64
import random
import secrets
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

import aiohttp

from common.bus.port import Bus
from common.domain import images, transitions
from common.domain.errors import Unavailable
from common.domain.images import Lease, Picture
from common.messages import Event
from common.runtime.clock import SystemClock
from tests.faults.fault_cluster import FaultCluster
from tests.faults.follower import Follower, following
from tests.making import an_event_factory, an_image

REPEATED = 0.3  # share of terminal events that are published again, up to 50 events later
PACE_S = 0.002


class EventSource:
    """Publishes the events of images that are in no store."""

    def __init__(
        self,
        bus: Bus,
        *,
        seed: int = 0,
        prompt: str = "a lighthouse",
        before_publish: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.published: list[str] = []
        self._bus = bus
        self._before_publish = before_publish
        self._clock = SystemClock()
        self._dice = random.Random(seed)
        self._prompt = prompt
        self._again: deque[tuple[int, Event]] = deque()
        self._count = 0
        # the services make their events by the same factory
        self._events = an_event_factory(self._clock, source="test")

    async def publish_lives(self, count: int) -> None:
        """The events of `count` images, one image after the other."""
        for _ in range(count):
            await self.publish_life()
            await asyncio.sleep(PACE_S)

    async def publish_life(self) -> str:
        """The events of one image from queued to completed; returns its id."""
        now = self._clock.now()
        image = an_image(created_at=now, prompt=self._prompt)
        lease = Lease(token="t", worker="w", until=now + timedelta(seconds=30))
        running = transitions.claim(image, lease=lease, now=now, deadline=timedelta(minutes=5))
        picture = Picture(
            image_file="f", thumbnail="t", format=images.Format.PNG, file_size=1, width=1, height=1, generation_time=1
        )
        done = transitions.complete(running, lease=lease, attempt=1, picture=picture, now=now)
        await self._publish(self._events.changed(image, "image.queued"))
        await self._publish(self._events.changed(running, "image.started"))
        await self._publish(self._events.progressed(running, step=1, steps=2, seconds_left=None))
        completed = self._events.changed(done, "image.completed")
        await self._publish(completed)
        self.published.append(image.id)
        if self._dice.random() < REPEATED:
            self._again.append((self._count + self._dice.randrange(50), completed))
        while self._again and self._again[0][0] <= self._count:
            await self._publish(self._again.popleft()[1])
        return image.id

    async def _publish(self, event: Event) -> None:
        self._count += 1
        while True:
            try:
                self._before_publish(event)
                await self._bus.publish(event)
                return
            except Unavailable:  # outcome unknown: the event may now be in the log twice, as that of a worker may
                await asyncio.sleep(0.2)


@dataclass
class StreamResult:
    """The published events that the followers missed or saw twice."""

    images: int = 0
    reconnects: int = 0
    missed: int = 0
    shown_twice: int = 0
    gaps: int = 0
    kills: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.missed or self.shown_twice or self.gaps)

    def count(self, number: int, follower: Follower, published: list[str]) -> None:
        shown = follower.shown
        for image_id in published:
            times = shown.events[image_id, "image.completed"]
            if times != 1:
                self.missed += times == 0
                self.shown_twice += times > 1
                self.examples.append(f"follower {number} was shown {image_id} {times} times")
        self.gaps += shown.gaps
        self.reconnects += follower.reconnects


async def reconnecting(
    cluster: FaultCluster,
    http: aiohttp.ClientSession,
    *,
    reconnects: int,
    followers: int,
    seed: int,
    kill_every_s: float,
) -> StreamResult:
    """Publish until the followers have reconnected so often in sum; then compare what each was shown."""
    result, dice = StreamResult(), random.Random(seed)
    urls = list(cluster.urls.values())
    async with cluster.bus() as bus, _many_followers(http, urls, followers, seed) as all_followers:
        source = EventSource(bus, seed=seed)
        killer = asyncio.create_task(_kill_replicas(cluster, result, dice, kill_every_s))
        while sum(follower.reconnects for follower in all_followers) < reconnects or not result.kills:
            await source.publish_lives(20)
        killer.cancel()
        await asyncio.wait([killer])
        last = await source.publish_life()
        try:
            async with asyncio.timeout(30):
                for follower in all_followers:
                    await follower.until_final(last).wait()
        except TimeoutError:
            result.examples.append("not all followers were shown the last image within 30 s")
        result.images = len(source.published)
        for number, follower in enumerate(all_followers):
            result.count(number, follower, source.published)
    return result


async def _kill_replicas(cluster: FaultCluster, result: StreamResult, dice: random.Random, every_s: float) -> None:
    """Kill and restart one api after another."""
    while True:
        await asyncio.sleep(every_s * dice.uniform(0.5, 1.5))
        alias = dice.choice(list(cluster.urls))
        cluster.services[alias].signal(signal.SIGKILL)
        result.kills += 1
        await cluster.services[alias].wait()
        await cluster.restart(alias)


@asynccontextmanager
async def _many_followers(
    http: aiohttp.ClientSession, urls: list[str], count: int, seed: int
) -> AsyncIterator[list[Follower]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(following(http, urls, leaves=0.1, seed=seed + number))
            for number in range(count)
        ]


class SilentClient:
    """A websocket that is never read: not by the client, soon not by the kernel either."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect((parts.hostname, parts.port))
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def close(self) -> None:
        self._socket.close()
