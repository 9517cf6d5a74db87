"""Live stream benchmark: fan-out to many sockets, idle sockets, a thousand reconnects at once.

One api process on RabbitMQ. This process publishes the events; listeners in processes of their own receive them.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks import crowds, servers
from benchmarks.listener_processes import listener_process, publish_events
from benchmarks.measurements import (
    CpuUsage,
    Table,
    arguments,
    memory_mib,
    percentile,
    raise_open_files,
    report_progress,
    save_results,
)
from common.bus.connect import open_bus
from common.bus.port import Bus
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from tests.cluster import Cluster, running

PER_S = 30  # events a second: 1,000 sockets then have 30,000 deliveries
IDLE = 10_000
IDLE_EACH = 5_000  # sockets of one listening process
PING_INTERVAL_S = 20.0  # as WEBSOCKET_HEARTBEAT is by default: all idle sockets are pinged once
MISSED = 50


async def fan_out(cluster: Cluster, bus: Bus, table: Table, *, size: int) -> None:
    api = cluster.services["api"].pid
    for sockets in (1, 10, 100, 1000):
        events = size
        async with listener_process(cluster.api_port) as listeners:
            await listeners.do(f"open {sockets}")
            await publish_events(bus, 5, per_s=PER_S)
            await listeners.do("wait 5")
            watch = CpuUsage({"api": [api]})
            await listeners.send(f"wait {events}")
            began = time.perf_counter()
            await publish_events(bus, events, per_s=PER_S)
            answer = await listeners.answer()
            took, spent = time.perf_counter() - began, watch.spent()["api"]
        if answer["received"] < events * sockets:
            raise RuntimeError(f"{answer['received']} of {events * sockets} frames came")
        row: dict[str, float] = {
            "deliveries/s": answer["received"] / took,
            "a second and a core": answer["received"] / spent,
            "p50 ms": percentile(answer["latencies_ms"], 0.5),
            "p99 ms": percentile(answer["latencies_ms"], 0.99),
        }
        table.add(f"{sockets:,} sockets", **row)


async def idle(cluster: Cluster, table: Table) -> None:
    api = cluster.services["api"].pid
    async with listener_process(cluster.api_port) as first, listener_process(cluster.api_port) as second:
        await first.do("open 10")
        before = memory_mib([api], what="VmRSS")
        for listeners in (first, second):
            await listeners.do(f"open {IDLE_EACH}")
        after = memory_mib([api], what="VmRSS")
        watch = CpuUsage({"api": [api]})
        await asyncio.sleep(PING_INTERVAL_S)
        table.add(
            f"{IDLE:,} idle sockets",
            **{
                "KiB each": (after - before) * 1024 / IDLE,
                "MiB in all": after,
                "api CPU %": watch.spent()["api"] / watch.wall_s * 100,
            },
        )


async def resume(cluster: Cluster, bus: Bus, table: Table) -> None:
    """1,000 sockets: the api stops, 50 events are missed, it starts again, all reconnect with their cursor."""
    api = cluster.services["api"]
    async with listener_process(cluster.api_port) as listeners:
        await listeners.do("open 1000")
        await publish_events(bus, 3, per_s=PER_S)
        await listeners.do("wait 3")
        cursor = await _cursor(cluster)
        await api.stop()
        await publish_events(bus, MISSED, per_s=1000)
        await listeners.do("close")
        await api.start()
        await api.ready()
        watch = CpuUsage({"api": [api.pid]})
        began_ns = time.monotonic_ns()
        await listeners.do(f"open 1000 {cursor}")
        greeted_ns = time.monotonic_ns()
        answer = await listeners.do(f"wait {MISSED}")
    if answer["received"] < 1000 * MISSED:
        raise RuntimeError(f"{answer['received']} of {1000 * MISSED} missed events came")
    table.add(
        f"1,000 sockets come back, {MISSED} events missed",
        **{
            "all greeted, s": (greeted_ns - began_ns) / 1e9,
            "all caught up, s": (answer["at_ns"] - began_ns) / 1e9,
            "api CPU s": watch.spent()["api"],
        },
    )


async def _cursor(cluster: Cluster) -> str:
    """The end of the log, from the hello of a new socket."""
    async with listener_process(cluster.api_port) as one:
        return str((await one.do("open 1"))["cursor"])


async def main(size: int, rounds: int) -> None:
    fan = Table(
        f"Fan-out: {size} completed events at {PER_S} a second",
        ("deliveries/s", "a second and a core", "p50 ms", "p99 ms"),
        head="to",
    )
    idling = Table("Idle sockets", ("KiB each", "MiB in all", "api CPU %"))
    coming_back = Table("Resume after an api restart", ("all greeted, s", "all caught up, s", "api CPU s"))
    crowded = crowds.table()
    raise_open_files()
    with servers.folder() as folder, servers.broker() as broker:
        async with servers.stub(folder) as stub:
            for number in range(rounds):
                bus_url = broker.fresh_vhost()
                cluster = servers.cluster(
                    Path(folder / f"live-{number}"),
                    bus_url=bus_url,
                    stub_url=stub.url,
                    generators=0,
                    WEBSOCKETS_PER_OWNER="20000",
                )
                async with (
                    running(cluster),
                    open_bus(Settings(bus_url=bus_url), name="bench", clock=SystemClock()) as bus,
                ):
                    await fan_out(cluster, bus, fan, size=size)
                    await resume(cluster, bus, coming_back)
                    await idle(cluster, idling)
                await crowds.measure(folder / f"crowds-{number}", broker, stub.url, crowded)
                report_progress(f"round {number + 1}: live")
    save_results("live", [fan, idling, coming_back, crowded], size=size, rounds=rounds)


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", size=200, rounds=3)
    asyncio.run(main(chosen.size, chosen.rounds))
