"""`make bench-pools`: the cost of a lost pool to the other one; the cost of a lost back end to its generator.

1. Two pools, each with a generator. A steady load on the first, quiet and then while 200 orders of the second wait,
   whose generator was killed: seconds from POST to completed. Then a generator comes: seconds until all are painted.
2. One generator with two back ends, which always have more work than slots. One dies and comes back: pictures a second
   of each state, the images that failed, and the failures that were counted.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from benchmarks import servers
from benchmarks.load import OrderLoad, load
from tests.cluster import Cluster, FrontEnd, front_end, running
from tests.inference_double import Inference, inference_double, paint
from tests.servers.process import free_ports

PAINT_S = 0.2
SLOTS = 2  # of each back end
QUIET_ORDERS, PER_S = 150, 5.0  # half of what two slots can do
WAITING = 200
WINDOW_S = 20.0
OWN_SETTINGS = {"ANNOUNCE_INTERVAL": "1", "WAITING_REQUESTS": "10000"}


async def slowly(request: web.Request, order: dict[str, int]) -> web.StreamResponse:
    await asyncio.sleep(PAINT_S)
    return await paint(request, order)


def body(model: str) -> bytes:
    return json.dumps({"prompt": "a lighthouse", "model": model, "width": 64, "height": 64}).encode()


@asynccontextmanager
async def back_end(model: str, port: int = 0) -> AsyncIterator[Inference]:
    async with inference_double(port) as double:
        double.capabilities = {"models": [{"id": model}]}
        double.always(slowly)
        yield double


async def until_live(page: FrontEnd, wanted: dict[str, bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            _, found = await page.get("/api/models/")
            if {model["id"]: model["live"] for model in found["models"]} == wanted:
                return
            await asyncio.sleep(0.05)


def new_cluster(folder: Path, bus_url: str) -> Cluster:
    cluster = Cluster(folder, **{**servers.SETTINGS, **OWN_SETTINGS, "BUS_URL": bus_url})
    cluster.add("api")
    cluster.add("janitor")
    return cluster


def add_generator(cluster: Cluster, alias: str, url: str, pool: str = "default") -> None:
    settings = {"INFERENCE_SERVICE_URL": url, "GENERATOR_CONCURRENCY": str(SLOTS), "GENERATOR_POOL": pool}
    cluster.add("generator", alias=alias, **settings)


def report(line: str) -> None:
    print(line, flush=True)


def shown(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    return f"p50 {statistics.median(ordered) * 1e3:6.0f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:6.0f} ms"


async def measure_pools(folder: Path, bus_url: str) -> None:
    async with back_end("sdxl") as sdxl, back_end("flux") as flux, AsyncExitStack() as stack:
        cluster = new_cluster(folder, bus_url)
        add_generator(cluster, "first", sdxl.url)
        add_generator(cluster, "second", flux.url, pool="flux")
        await stack.enter_async_context(running(cluster))
        page = await stack.enter_async_context(front_end(cluster.url))
        orders = await stack.enter_async_context(load(cluster.url, body("sdxl")))
        await until_live(page, {"sdxl": True, "flux": True})
        await orders.flood(20)
        orders.forget()
        print(f"first pool, quiet:                        {shown(await orders.drip(QUIET_ORDERS, per_s=PER_S))}")
        orders.forget()

        await cluster.services["second"].kill()
        await until_live(page, {"sdxl": True, "flux": False})
        others = await stack.enter_async_context(load(cluster.url, body("flux")))
        filling = asyncio.create_task(others.flood(WAITING))
        while len(others.answered) < WAITING and not filling.done():
            await asyncio.sleep(0.05)
        times = await orders.drip(QUIET_ORDERS, per_s=PER_S)
        report(f"first pool, while {WAITING} orders of the other wait: {shown(times)}")

        add_generator(cluster, "third", flux.url, pool="flux")
        began = time.perf_counter()
        await cluster.start("third")
        await filling
        ideal_s = WAITING * PAINT_S / SLOTS
        report(
            f"second pool, with a generator again: {WAITING} painted in {time.perf_counter() - began:.1f} s "
            f"(its slots alone take {ideal_s:.0f} s), none failed"
        )


async def keep_busy(orders: OrderLoad, at_once: int) -> None:
    """Order again as soon as one is final."""
    while True:
        while len(orders.answered) - len(orders.ended) < at_once:
            await orders.order()
        await asyncio.sleep(0.01)


async def throughput(orders: OrderLoad, seconds: float = WINDOW_S) -> float:
    before, began = len(orders.ended), time.perf_counter()
    await asyncio.sleep(seconds)
    return (len(orders.ended) - before) / (time.perf_counter() - began)


async def measure_back_ends(folder: Path, bus_url: str) -> None:
    port = free_ports(1)[0]
    async with AsyncExitStack() as stack:
        stays = await stack.enter_async_context(back_end("sdxl"))
        mortal = AsyncExitStack()
        dies = await mortal.enter_async_context(back_end("sdxl", port))
        cluster = new_cluster(folder, bus_url)
        add_generator(cluster, "generator", f"{stays.url} {dies.url}")
        await stack.enter_async_context(running(cluster))
        page = await stack.enter_async_context(front_end(cluster.url))
        orders = await stack.enter_async_context(load(cluster.url, body("sdxl")))
        await until_live(page, {"sdxl": True})
        await orders.flood(40)
        busy = asyncio.create_task(keep_busy(orders, at_once=16))
        await asyncio.sleep(2)
        both = await throughput(orders)
        await mortal.aclose()
        await asyncio.sleep(2)
        one = await throughput(orders)
        again = await stack.enter_async_context(back_end("sdxl", port))
        began = time.perf_counter()
        while not again.keys:
            await asyncio.sleep(0.02)
        back_s = time.perf_counter() - began
        await asyncio.sleep(2)
        recovered = await throughput(orders)
        busy.cancel()
        await orders.drip(0, per_s=1)
        report(
            f"two back ends {both:.1f} pictures/s, one of them dead {one:.1f}/s ({one / both:.2f}), "
            f"back after {back_s:.1f} s: {recovered:.1f}/s ({recovered / both:.2f})"
        )
    print(f"{len(orders.ended)} images, {orders.failed} failed; with a counted failure: {counted_failures(folder)}")


def counted_failures(folder: Path) -> int:
    connection = sqlite3.connect(folder / "darkroom.db")
    try:
        query = "SELECT count(*) FROM images WHERE json_extract(document, '$.failures') > 0"
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def main() -> int:
    with servers.broker() as broker, tempfile.TemporaryDirectory(prefix="darkroom-bench-") as name:
        for measure in (measure_pools, measure_back_ends):
            folder = Path(name) / measure.__name__
            folder.mkdir()
            asyncio.run(measure(folder, broker.fresh_vhost()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
