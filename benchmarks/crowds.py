"""Live stream benchmark, second half: 5,000 sockets of one owner, 10,000 owners, previews, sockets that read nothing.

Each with one api process of its own on RabbitMQ, with identity. What counts is the CPU of the api: the listeners share
its two cores. The lag of its event loop is the time of GET /healthz, asked for twenty times a second meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import servers
from benchmarks.listener_processes import ListenerProcess, a_preview, an_event, listener_process, publish_events
from benchmarks.measurements import CpuUsage, Table, memory_mib, percentile, raise_open_files, report_progress
from common.bus.connect import open_bus
from common.bus.port import Bus
from common.messages import Event
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from tests.cluster import Cluster, running
from tests.security import callers
from tests.servers.rabbitmq import RabbitMQ

PROCESSES = 2  # that listen
PROBE_S = 0.05
LIMIT_S = 120
DELIVERIES = "deliveries/s"
A_CORE = "a second and a core"
LAG = "loop lag p99 ms"
CROWD = "5,000 sockets of one owner, 50 events/s"
WITH_DEAF = "the same, 50 more read nothing"
OWNERS = "10,000 owners, 200 events/s"
PREVIEWS = "1,000 sockets of one owner, 20 previews/s of 20 kB"
PREVIEWS_DEAF = "the same, 50 more read nothing "


@dataclass(frozen=True, slots=True)
class Crowd:
    """What one row measures: its sockets, its events, and how many sockets each event goes to."""

    sockets: int
    events: int
    per_s: int
    fan_out: int
    event: Callable[[int], Event]
    deaf: int = 0

    @property
    def has_owners(self) -> bool:
        return self.fan_out == 1


def _an_owner(number: int, of_a_process: int) -> str:
    """The owners of both listening processes in turn."""
    return f"owner-{number % PROCESSES * of_a_process + number * 7919 % of_a_process}"


CROWDS = {
    CROWD: Crowd(5_000, 250, 50, 5_000, lambda _: an_event("crowd")),
    WITH_DEAF: Crowd(5_000, 250, 50, 5_000, lambda _: an_event("crowd"), deaf=50),
    OWNERS: Crowd(10_000, 1_000, 200, 1, lambda number: an_event(_an_owner(number, 5_000))),
    PREVIEWS: Crowd(1_000, 100, 20, 1_000, lambda _: a_preview("crowd")),
    PREVIEWS_DEAF: Crowd(1_000, 100, 20, 1_000, lambda _: a_preview("crowd"), deaf=50),
}


def table() -> Table:
    columns = (DELIVERIES, A_CORE, "api CPU ms/event", "p50 ms", "p99 ms", LAG, "KiB a socket", "MiB more after")
    return Table("Crowds", columns, head="to")


async def measure(folder: Path, broker: RabbitMQ, stub_url: str, into: Table, only: str = "") -> None:
    for name, crowd in CROWDS.items():
        if only not in name:
            continue
        bus_url = broker.fresh_vhost()  # each crowd has a store of its own, and one deployment uses a virtual host
        cluster = servers.cluster(
            folder / str(crowd.sockets + crowd.deaf + crowd.events),
            bus_url=bus_url,
            stub_url=stub_url,
            generators=0,
            WEBSOCKETS_PER_OWNER="20000",
            **callers.settings_of(),
        )
        async with (
            running(cluster),
            open_bus(Settings(bus_url=bus_url), name="bench", clock=SystemClock()) as bus,
        ):
            into.add(name, **await _row(cluster, bus, crowd))
        report_progress(name)


async def _row(cluster: Cluster, bus: Bus, crowd: Crowd) -> dict[str, float]:
    api = cluster.services["api"].pid
    async with listening(cluster, crowd) as (listeners, a_socket_kib):
        await publish_events(bus, 2, per_s=10, event=lambda _: crowd.event(0))
        await ask(
            listeners, f"wait-all {2 * crowd.fan_out // (1 if crowd.has_owners else PROCESSES)}", crowd, first=True
        )
        before = memory_mib([api], what="VmRSS")
        watch = CpuUsage({"api": [api]})
        frames = crowd.events * crowd.fan_out
        async with probed(cluster) as lags:
            began_ns = time.monotonic_ns()
            asked = asyncio.create_task(ask(listeners, f"wait-all {frames // PROCESSES}", crowd))
            await publish_events(bus, crowd.events, per_s=crowd.per_s, event=crowd.event)
            async with asyncio.timeout(LIMIT_S):
                answers = await asked
        spent = watch.spent()["api"]
        took = (max(answer["at_ns"] for answer in answers) - began_ns) / 1e9
        latencies = [each for answer in answers for each in answer["latencies_ms"]]
        return {
            DELIVERIES: frames / took,
            A_CORE: frames / spent,
            "api CPU ms/event": spent / crowd.events * 1000,
            "p50 ms": percentile(latencies, 0.5),
            "p99 ms": percentile(latencies, 0.99),
            LAG: percentile(lags, 0.99),
            "KiB a socket": a_socket_kib,
            "MiB more after": memory_mib([api], what="VmRSS") - before,
        }


async def ask(
    listeners: list[ListenerProcess], line: str, crowd: Crowd, *, first: bool = False
) -> list[dict[str, Any]]:
    """The answers of all listening processes; the first event of `owners` goes to a socket of the first one."""
    if crowd.has_owners and first:
        return [await listeners[0].do(line)]
    return list(await asyncio.gather(*(each.do(line) for each in listeners)))


@asynccontextmanager
async def listening(cluster: Cluster, crowd: Crowd) -> AsyncIterator[tuple[list[ListenerProcess], float]]:
    """The sockets of a crowd, in several processes; and what each takes of the api's memory, in KiB."""
    api = cluster.services["api"].pid
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listener_process(cluster.api_port)) for _ in range(PROCESSES)]
        await asyncio.gather(*(each.do("same nobody 5") for each in listeners))  # what the first sockets load
        before = memory_mib([api], what="VmRSS")
        share = crowd.sockets // PROCESSES
        await asyncio.gather(
            *(
                each.do(f"owners {number * share} {share}" if crowd.has_owners else f"same crowd {share}")
                for number, each in enumerate(listeners)
            )
        )
        after = memory_mib([api], what="VmRSS")
        if crowd.deaf:
            await listeners[0].do(f"deaf crowd {crowd.deaf}")
        yield listeners, (after - before) * 1024 / crowd.sockets


@asynccontextmanager
async def probed(cluster: Cluster) -> AsyncIterator[list[float]]:
    """The times of GET /healthz in ms, until the end of the block."""
    times_ms: list[float] = []

    async def probe() -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                began = time.perf_counter()
                async with http.get(f"{cluster.url}/healthz") as response:
                    await response.read()
                times_ms.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(PROBE_S)

    probing = asyncio.create_task(probe())
    try:
        yield times_ms
    finally:
        probing.cancel()


async def main(only: str) -> None:
    """`python -m benchmarks.crowds [PART OF A NAME]`: some rows, by themselves."""
    found = table()
    with servers.folder() as folder, servers.broker() as broker:
        async with servers.stub(folder) as stub:
            await measure(folder, broker, stub.url, found, only)
    print(found.markdown())
    print(json.dumps(found.rows))


if __name__ == "__main__":
    raise_open_files()
    asyncio.run(main("".join(sys.argv[1:])))
