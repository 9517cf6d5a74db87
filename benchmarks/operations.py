"""What single operations cost in a store of 10^6 images and 100,000 waiting orders, compared with an almost empty one.

CPU is the main figure: of the api for its requests, of this process for what a janitor or a generator does, which runs
here with events in memory. A request is measured in turns on both stores, so that both have the same machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import servers
from benchmarks.filled_files import copy_filled, owner_name
from benchmarks.load import HEADERS, ORDER
from benchmarks.measurements import Table, memory_mib, percentile, report_progress
from benchmarks.purge import Transactions
from common.application.events import EventFactory
from common.application.outbox import Outbox
from common.bus.connect import open_bus
from common.domain import transitions
from common.domain.images import Lease
from common.domain.pools import DEFAULT_POOL
from common.domain.views import ImagePresenter
from common.media.connect import open_media
from common.messages import TickData
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store.connect import open_store
from common.store.port import change
from services.janitor.context import JanitorContext
from services.janitor.gathering import FigureGatherer
from services.janitor.purge import BATCHES_PER_RUN, purge
from services.janitor.reconcile import reconcile
from tests.cluster import Cluster, running
from tests.servers.rabbitmq import RabbitMQ

EMPTY, FULL = "almost empty", "filled"
PURGE_BATCH = 100
TURNS = 100  # owners who get one
FEW = 100  # waiting images of the almost empty store
IN_EMPTY = PURGE_BATCH * BATCHES_PER_RUN + 1_000  # completed images of the almost empty store
PICTURES = 50  # in an archive
CHECK_S = 0.005  # how often the event loop shows its lag
MeasuredRequest = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One operation on one store."""

    cpu_ms: float
    p50_ms: float
    lag_ms: float | None = None
    transaction_ms: float | None = None
    memory_mib: float | None = None


def table(full: int, waiting: int) -> Table:
    columns = (
        f"CPU ms, {EMPTY}",
        f"CPU ms, {FULL}",
        "CPU over",
        f"p50 ms, {EMPTY}",
        f"p50 ms, {FULL}",
        "longest lag of the loop, ms",
        "longest write, ms",
        "MiB more",
    )
    return Table(f"Operations beside {full:,} images and {waiting:,} waiting, over {IN_EMPTY:,} and {FEW}", columns)


async def measure(folder: Path, broker: RabbitMQ, stub_url: str, into: Table, *, full: int, waiting: int) -> None:
    await _requests(folder / "requests", broker, stub_url, into, full=full, waiting=waiting)
    report_progress("requests")
    found: dict[str, dict[str, Measured]] = {EMPTY: {}, FULL: {}}
    for name, count, lined_up in ((EMPTY, IN_EMPTY, FEW), (FULL, full, waiting)):
        path = folder / name
        path.mkdir()
        copy_filled(count, path / "darkroom.db", waiting=lined_up)
        found[name] = await _of_janitor(path)
        report_progress(f"janitor, {name}")
    for what in found[FULL]:
        _add(into, what, found[EMPTY].get(what), found[FULL][what])


def _add(into: Table, what: str, empty: Measured | None, full: Measured) -> None:
    row: dict[str, float | None] = {
        f"CPU ms, {EMPTY}": empty.cpu_ms if empty else None,
        f"CPU ms, {FULL}": full.cpu_ms,
        "CPU over": full.cpu_ms / empty.cpu_ms if empty else None,
        f"p50 ms, {EMPTY}": empty.p50_ms if empty else None,
        f"p50 ms, {FULL}": full.p50_ms,
        "longest lag of the loop, ms": full.lag_ms,
        "longest write, ms": full.transaction_ms,
        "MiB more": full.memory_mib,
    }
    into.add(what, **{name: value for name, value in row.items() if value is not None})


# -- requests to an api


async def _post(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(f"{url}/v1/images/generations", data=ORDER, headers=HEADERS) as response:
        await response.read()
        if response.status != 202:
            raise RuntimeError(f"POST: {response.status}")


async def _get(path: str, http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(f"{url}{path}") as response:
        body = await response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {body[:300]!r}")
        return body


async def _archive(http: aiohttp.ClientSession, url: str) -> None:
    page = json.loads(await _get(f"/api/images/history/?perPage={PICTURES}&status=completed", http, url))
    ids = {"ids": [image["id"] for image in page["images"]]}
    async with http.post(f"{url}/api/archives/", json=ids) as response:
        prepared = await response.json()
    await _get(prepared["url"], http, url)


REQUESTS: dict[str, tuple[MeasuredRequest, int]] = {
    "POST, 202": (_post, 100),
    "history with total, first page": (partial(_get, "/api/images/history/"), 100),
    "search for two words, first page": (partial(_get, "/api/images/history/?q=lighthouse+storm"), 100),
    "search for a word of no prompt": (partial(_get, "/api/images/history/?q=zeppelin"), 100),
    "status page, JSON": (partial(_get, "/api/status/"), 100),
    f"archive of {PICTURES} pictures": (_archive, 20),
}


async def _requests(
    folder: Path, broker: RabbitMQ, stub_url: str, into: Table, *, full: int, waiting: int, rounds: int = 2
) -> None:
    """Each request in turns on both stores, whose services run beside each other."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        clusters: dict[str, Cluster] = {}
        for name, count, lined_up in ((EMPTY, IN_EMPTY, FEW), (FULL, full, waiting)):
            path = folder / name
            cluster = servers.cluster(
                path, bus_url=broker.fresh_vhost(), stub_url=stub_url, generators=0, RETENTION_DAYS="36500"
            )
            del cluster.services["janitor"]  # the turns of the waiting orders are not what is measured here
            copy_filled(count, path / "darkroom.db", waiting=lined_up)
            await stack.enter_async_context(running(cluster))
            clusters[name] = cluster
        for what, (request, count) in REQUESTS.items():
            report_progress(what)
            for name in (EMPTY, FULL):
                await _timed(clusters[name], http, request, 5)
            for _ in range(rounds):
                found = {name: await _timed(clusters[name], http, request, count) for name in (EMPTY, FULL)}
                _add(into, what, found[EMPTY], found[FULL])


async def _timed(cluster: Cluster, http: aiohttp.ClientSession, request: MeasuredRequest, count: int) -> Measured:
    api = cluster.services["api"].pid
    times: list[float] = []
    before = cpu_ns(api)
    for _ in range(count):
        began = time.perf_counter()
        await request(http, cluster.url)
        times.append((time.perf_counter() - began) * 1000)
    return Measured((cpu_ns(api) - before) / count / 1e6, percentile(times, 0.5))


def cpu_ns(pid: int) -> int:
    """CPU of a process in nanoseconds; the ticks of `cpu_s` are as long as ten requests."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))


# -- what a janitor and a generator do


class Loop:
    """The longest lag of the event loop of this process, until the end of the block."""

    def __init__(self) -> None:
        self.longest_ms = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Loop]:
        watching = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        yield self
        watching.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + CHECK_S
            await asyncio.sleep(CHECK_S)
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - due) * 1000)


async def _of_janitor(path: Path) -> dict[str, Measured]:
    settings = Settings(
        store_url=f"sqlite:///{path}/darkroom.db",
        media_root=str(path / "media"),
        bus_url="memory://",
        purge_batch=PURGE_BATCH,
        waiting_deadline=10**9,
        retention_days=36_500,
    )
    clock = SystemClock()
    found: dict[str, Measured] = {}
    with Transactions().watched() as transactions:
        async with (
            open_store(settings.store_url, timeout_s=30) as store,
            open_media(settings.media_root) as media,
            open_bus(settings, name="janitor", clock=clock) as bus,
        ):
            outbox = Outbox(
                bus,
                store,
                clock,
                EventFactory("janitor", clock, ImagePresenter("/media/", settings.retention)),
                slots=1,
            )
            context = JanitorContext(bus=bus, store=store, media=media, outbox=outbox, settings=settings, clock=clock)

            async def timed(what: str, act: Callable[[], Awaitable[object]], *, each: int = 1) -> None:
                transactions.longest_ms = 0.0
                memory, cpu, began = memory_mib([os.getpid()]), time.process_time(), time.perf_counter()
                async with Loop().watched() as loop:
                    await act()
                    cpu, took = time.process_time() - cpu, time.perf_counter() - began
                found[what] = Measured(
                    cpu / each * 1000,
                    took / each * 1000,
                    loop.longest_ms,
                    transactions.longest_ms,
                    memory_mib([os.getpid()]) - memory,
                )

            await outbox.dispatch_waiting(owner_name(0))
            await timed("next turn of an owner", partial(_turns, outbox), each=TURNS - 1)
            await timed("claim of a dispatched image", partial(_claims, context), each=TURNS)
            if owners := len(await store.owners_waiting(after=owner_name(TURNS - 1), limit=10_000)):
                await timed(f"a turn of {owners} by reconcile", partial(_reconcile, context), each=owners)
            await timed("reconcile, no turn to give", partial(_reconcile, context))
            await timed("figures of the status page", FigureGatherer(context).count)
            await timed(
                "purge of an image",
                lambda: purge(TickData(older_than=1), context=context),
                each=PURGE_BATCH * BATCHES_PER_RUN,
            )
    return found


async def _turns(outbox: Outbox) -> None:
    for number in range(1, TURNS):
        if await outbox.dispatch_waiting(owner_name(number)) != 1:
            raise RuntimeError(f"{owner_name(number)} had no turn")


async def _claims(context: JanitorContext) -> None:
    now = context.clock.now()
    lease = Lease(token="benchmark", worker="benchmark", until=now + timedelta(hours=1), length_s=3600)
    for image in await context.store.dispatched_to(DEFAULT_POOL, limit=TURNS):
        await change(
            context.store, image.id, partial(transitions.claim, lease=lease, now=now, deadline=timedelta(hours=1))
        )


async def _reconcile(context: JanitorContext) -> None:
    await reconcile(TickData(), context=context.at(context.clock.now()))


async def main(full: int, waiting: int) -> None:
    """`python -m benchmarks.operations`: by itself."""
    found = table(full, waiting)
    with servers.folder() as folder, servers.broker() as broker:
        async with servers.stub(folder) as stub:
            await measure(folder, broker, stub.url, found, full=full, waiting=waiting)
    print(found.markdown())


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:] or (1_000_000, 100_000))))
