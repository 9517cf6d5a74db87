"""How long others wait while two owners order without end: one by the bus, one over HTTP.

a publisher ── many orders of one owner, at once ──────────▶ bus
a greedy owner ── requests over HTTP, as many as it may ───▶ api
the others ── one request every few seconds each ──────────▶ api     their wait is from POST to `started`
"""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import aiohttp
from aiohttp import web

from common.bus.port import Bus
from common.domain.images import new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from tests.cluster import ORDER
from tests.inference_double import paint
from tests.security import callers

SENDERS = 50  # confirms in flight at the publisher
AFTER_S = 10.0  # at the end, for the requests that were not started yet
SLOTS = 2  # of each owner


@dataclass
class FairnessLoad:
    """`slots` are those of all generators together; `paint_s` is how long each painting takes."""

    orders: int
    seconds: float
    slots: int
    paint_s: float
    others: int = 5
    every_s: float = 2.0

    @property
    def bound_s(self) -> float:
        """The longest fair wait: each owner with work may have its slots painted before."""
        return (self.others + 2) * SLOTS * self.paint_s / self.slots

    async def paint(self, request: web.Request, order: dict) -> web.Response:
        """The inference service: every painting takes the same time."""
        await asyncio.sleep(self.paint_s)
        return await paint(request, order)


@dataclass
class OthersWaits:
    """Of the others, in seconds; a request that was not started yet has waited until now."""

    waits: list[float] = field(default_factory=list)
    unstarted: int = 0
    greedy: int = 0  # requests of the greedy owner that were accepted

    def percentile(self, share: float) -> float:
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def play(load: FairnessLoad, *, bus: Bus, url: str, seed: int = 1) -> OthersWaits:
    """Put the load on a running system; returns the waits of the others."""
    dice, found = random.Random(seed), OthersWaits()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await _publish(bus, load.orders)
        ends_s = time.monotonic() + load.seconds
        greedy = asyncio.create_task(_order_without_end(http, url, found))
        names = [f"other-{number}" for number in range(load.others)]
        requested = await asyncio.gather(
            *(_order_now_and_then(http, url, name, load, ends_s=ends_s, dice=dice) for name in names)
        )
        greedy.cancel()
        with suppress(asyncio.CancelledError):
            await greedy
        images = [(name, image_id) for name, ids in zip(names, requested, strict=True) for image_id in ids]
        await _until_started(http, url, images, found)
    return found


async def _publish(bus: Bus, count: int) -> None:
    request = GenerationRequest(prompt="a newsletter", width=64, height=64, steps=2)
    gate = asyncio.Semaphore(SENDERS)

    async def send() -> None:
        async with gate:
            now = SystemClock().now()
            await bus.send(
                GenerateImage(id=new_image_id(now), source="newsletter", owner="newsletter", time=now, data=request)
            )

    await asyncio.gather(*(send() for _ in range(count)))


def _headers(owner: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {callers.token(owner, exp=int(time.time()) + 3600)}", "Prefer": "respond-async"}


async def _order_without_end(http: aiohttp.ClientSession, url: str, found: OthersWaits) -> None:
    headers = _headers("greedy")
    while True:
        async with http.post(f"{url}/v1/images/generations", json=ORDER, headers=headers) as response:
            await response.read()
            found.greedy += response.status == 202
        await asyncio.sleep(0.02 if response.status == 202 else 0.2)


async def _order_now_and_then(
    http: aiohttp.ClientSession, url: str, owner: str, load: FairnessLoad, *, ends_s: float, dice: random.Random
) -> list[str]:
    headers, ids = _headers(owner), []
    await asyncio.sleep(dice.uniform(0, load.every_s))
    while time.monotonic() < ends_s:
        async with http.post(f"{url}/v1/images/generations", json=ORDER, headers=headers) as response:
            body = await response.json()
            if response.status == 202:  # before there were turns, the third was refused while two waited
                ids.append(body["id"])
        await asyncio.sleep(dice.uniform(0.5, 1.5) * load.every_s)
    return ids


async def _until_started(
    http: aiohttp.ClientSession, url: str, images: list[tuple[str, str]], found: OthersWaits
) -> None:
    """Read when each was started, waiting for the last ones a little."""
    ends_s = time.monotonic() + AFTER_S
    for owner, image_id in images:
        while True:
            async with http.get(f"{url}/api/images/{image_id}/", headers=_headers(owner)) as response:
                image = await response.json()
            if image["startedAt"] or time.monotonic() > ends_s:
                break
            await asyncio.sleep(0.1)
        created_at = datetime.fromisoformat(image["createdAt"])
        started_at = datetime.fromisoformat(image["startedAt"]) if image["startedAt"] else SystemClock().now()
        found.unstarted += image["startedAt"] is None
        found.waits.append((started_at - created_at).total_seconds())
