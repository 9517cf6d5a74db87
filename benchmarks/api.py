"""Latency and rate of the api: POST, GET of one image, history from 10^3 images upwards.

Whole requests are timed one at a time by a client in another process; rates are measured with 32 concurrent requests.
No generator runs, so the api, its store and its broker are measured alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp

from benchmarks import servers
from benchmarks.filled_store import OWNER, fill_store
from benchmarks.load import HEADERS, ORDER
from benchmarks.measurements import CpuUsage, Table, arguments, percentile, report_progress, save_results
from common.application.events import EventFactory
from common.bus.connect import open_bus
from common.bus.port import Bus
from common.domain import images
from common.domain.images import Status, new_image_id
from common.domain.requests import GenerationRequest, new_image
from common.domain.views import ImagePresenter
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store
from common.store.port import Store
from services.api.events.queue_positions import MAX_RANKED
from services.api.history.cursor import encode_cursor
from services.api.history.query import HistoryQuery
from services.api.limits.admission import Admission
from services.api.middleware.request_reading import parse
from tests.cluster import running
from tests.servers.rabbitmq import RabbitMQ

AT_ONCE = 32
PAGE = 20
QUANTILES = ("p50", "p95", "p99")
Ask = Callable[[], Awaitable[None]]


async def timed(ask: Ask, count: int, *, warm_up: int = 20) -> list[float]:
    """Milliseconds of each request, one after another."""
    for _ in range(warm_up):
        await ask()
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1000)
    return times


async def rate(ask: Ask, count: int) -> float:
    """Requests a second with `AT_ONCE` concurrent requests."""
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for _ in numbers:
            await ask()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())
    return count / (time.perf_counter() - began)


def quantiles(times: list[float]) -> dict[str, float]:
    return {"p50": percentile(times, 0.5), "p95": percentile(times, 0.95), "p99": percentile(times, 0.99)}


def getting(http: aiohttp.ClientSession, url: str) -> Ask:
    async def ask() -> None:
        async with http.get(url) as response:
            body = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{url}: {response.status} {body[:200]!r}")

    return ask


def posting(http: aiohttp.ClientSession, url: str) -> Ask:
    async def ask() -> None:
        async with http.post(f"{url}/v1/images/generations", data=ORDER, headers=HEADERS) as response:
            body = await response.read()
            if response.status != 202:
                raise RuntimeError(f"{response.status} {body[:200]!r}")

    return ask


# -- whole requests


async def requests(folder: Path, broker: RabbitMQ, stub: servers.InstantInference, *, size: int, rounds: int) -> Table:
    columns = (*QUANTILES, "a second", "api CPU ms")
    table = Table(f"Requests on RabbitMQ and SQLite, ms, one at a time: {size} each", columns, head="request")
    for number in range(rounds):
        path = folder / f"api-{number}"
        cluster = servers.cluster(path, bus_url=broker.fresh_vhost(), stub_url=stub.url, generators=0)
        async with running(cluster), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            async with http.post(f"{cluster.url}/v1/images/generations", data=ORDER, headers=HEADERS) as response:
                image = await response.json()
            asks = {
                "POST, 202": posting(http, cluster.url),
                "GET one image": getting(http, f"{cluster.url}/api/images/{image['id']}/"),
            }
            for name, ask in asks.items():
                times = await timed(ask, size)
                watch = CpuUsage({"api": [cluster.services["api"].pid]})
                a_second = await rate(ask, size)
                spent = watch.spent()["api"] / size * 1000
                table.add(name, **quantiles(times), a_second=a_second, api_CPU_ms=spent)
        report_progress(f"round {number + 1}: requests")
    return table


# -- the 202 path by step


async def steps(folder: Path, broker: RabbitMQ, *, size: int, rounds: int) -> Table:
    """What the handler calls, in this process, one at a time."""
    table = Table(f"The 202 path by step, ms: {size} each", ("p50", "p99"), head="step")
    for number in range(rounds):
        url = f"sqlite:///{folder}/steps-{number}.db"
        limited = Settings(bus_url=broker.fresh_vhost(), requests_per_hour=100_000)
        free = limited.model_copy(update={"requests_per_hour": 0, "concurrent_requests": 0})
        clock = SystemClock()
        async with (
            open_store(url, timeout_s=5) as store,
            open_bus(limited, name="bench", clock=clock) as bus,
        ):
            for name, ask in _steps(store, bus, clock, limited, free).items():
                times = await timed(ask, min(size, 48) if "limits" in name else size)
                table.add(name, p50=percentile(times, 0.5), p99=percentile(times, 0.99))
        report_progress(f"round {number + 1}: steps")
    return table


def _steps(store: Store, bus: Bus, clock: SystemClock, limited: Settings, free: Settings) -> dict[str, Ask]:
    events = EventFactory("api", clock, ImagePresenter("/media/", timedelta(days=30)))
    request = parse(ORDER, GenerationRequest)
    limiting = Admission(limited, store=store, clock=clock)
    unlimited = Admission(free, store=store, clock=clock)

    def fresh() -> images.Image:
        now = clock.now()
        return new_image(request, image_id=new_image_id(now), owner=OWNER, source="api", now=now)

    async def validate() -> None:
        parse(ORDER, GenerationRequest)
        fresh()

    async def insert() -> None:
        await unlimited.record(fresh())

    async def admit() -> None:
        image = fresh().model_copy(update={"owner": new_image_id(clock.now())})
        await limiting.record(image)

    async def queued() -> None:
        await bus.publish(events.changed(fresh(), "image.queued"))

    async def command() -> None:
        image = fresh()
        await bus.send(GenerateImage(id=image.id, source="api", subject=image.id, time=clock.now()))

    async def place() -> None:
        await store.count_queued_before(clock.now(), "", limit=MAX_RANKED)

    return {
        "validate": validate,
        "insert, without limits": insert,
        "insert, with both limits": admit,
        "publish the queued event (stream)": queued,
        "send the command (quorum queue)": command,
        "its place in the queue": place,
    }


# -- the history


async def history(folder: Path, stub: servers.InstantInference, *, size: int, rounds: int, most: int) -> Table:
    table = Table(f"History with total, ms, pages of {PAGE}: {size} each", QUANTILES, head="images, page")
    counts = [count for count in (1_000, 10_000, 100_000, 1_000_000) if count <= most]
    paths = {count: folder / f"history-{count}" for count in counts}
    middles: dict[int, str] = {}
    for count, path in paths.items():
        path.mkdir()
        ids = fill_store(path / "darkroom.db", count)
        middles[count] = await _position(path, ids[count // 2])
        report_progress(f"filled {count}")
    for number in range(rounds):
        for count, path in paths.items():
            cluster = servers.cluster(path, bus_url=None, stub_url=stub.url)
            async with running(cluster), aiohttp.ClientSession() as http:
                base = f"{cluster.url}/api/images/history/?perPage={PAGE}"
                for name, query in (
                    ("first page", ""),
                    ("cursor in the middle", f"&cursor={middles[count]}"),
                    ("page number in the middle", f"&page={count // PAGE // 2}"),
                ):
                    ask = getting(http, base + query)
                    times = await timed(ask, size if "number" not in name else max(5, size // 10), warm_up=3)
                    table.add(f"{count:,}, {name}", **quantiles(times))
        report_progress(f"round {number + 1}: history")
    return table


async def _position(path: Path, image_id: str) -> str:
    async with open_store(f"sqlite:///{path}/darkroom.db", timeout_s=5) as store:
        image = await store.get(image_id)
        assert image
        assert image.status is Status.COMPLETED
        return encode_cursor(image, HistoryQuery())


async def main(size: int, rounds: int, most: int = 1_000_000) -> None:
    with servers.folder() as folder, servers.broker() as broker:
        async with servers.stub(folder) as stub:
            tables = [
                await requests(folder, broker, stub, size=size, rounds=rounds),
                await steps(folder, broker, size=size, rounds=rounds),
            ]
            tables.append(await history(folder, stub, size=size, rounds=rounds, most=most))
    save_results("api", tables, size=size, rounds=rounds, images=most)


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", size=300, rounds=3)
    asyncio.run(main(chosen.size, chosen.rounds))
