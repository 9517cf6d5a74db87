"""Celery and dramatiq on the same stub: the bare job on threads, as their documents advise for jobs that wait."""

from __future__ import annotations

import asyncio
import time

from benchmarks import job, servers
from benchmarks.fleet.fleets import FleetSize, Observed, slot_stub
from benchmarks.fleet.parts import OVER, Shared, add_running
from benchmarks.fleet.slots import SteadyWindow
from benchmarks.measurements import CpuUsage, family, machine_cpu_s, pss_mb, report_progress

PROCESSES = 2  # one for each core
PEERS = ("Celery", "dramatiq")


def commands(name: str, threads: int) -> list[list[str]]:
    """Celery's pool of threads is in one process, so there are two workers; dramatiq starts its processes itself."""
    if name == "dramatiq":
        counts = ["--processes", str(PROCESSES), "--threads", str(threads)]
        return [["dramatiq", "benchmarks.peers.with_dramatiq", *counts]]
    options = ["--pool", "threads", "-c", str(threads), "--loglevel", "WARNING"]
    return [
        ["celery", "-A", "benchmarks.peers.with_celery", "worker", *options, "-n", f"worker-{number}"]
        for number in range(PROCESSES)
    ]


async def measure_peer(shared: Shared, name: str, size: FleetSize, *, is_equal: bool) -> None:
    """More work than slots, from the beginning."""
    times = "equal" if is_equal else "random"
    folder = shared.folder / f"{name}-{times}"
    folder.mkdir(parents=True)
    job.prepare(folder)
    async with slot_stub() as stub:
        env = {
            "BENCH_STUB": f"{stub.url}/{name}/0",
            "BENCH_FOLDER": str(folder),
            "BENCH_BROKER": shared.broker.fresh_vhost(),
            "PYTHONPATH": str(servers.ROOT),
        }
        with servers.peer(name, commands(name, size.slots // PROCESSES), env, folder) as (lines, pids):
            seconds = shared.seconds(size, 2)
            await stub.plan(size.mean_s, is_equal=is_equal, aged=size.slots)
            lines.send(0, int(size.slots + OVER * size.per_s * (seconds + size.mean_s)))
            await asyncio.to_thread(lines.expect, "ok")
            await stub.until_busy(int(0.99 * size.slots))
            await asyncio.sleep(0.95 * size.mean_s)
            usage, machine_s = CpuUsage({"worker": pids, "broker": servers.broker_pids()}), machine_cpu_s()
            began_s = time.monotonic()
            await asyncio.sleep(seconds)
            window = SteadyWindow(began_s, time.monotonic())
            busy = (machine_cpu_s() - machine_s) / window.seconds
            observed = Observed(window, usage.spent(), busy, await stub.paintings())
            memory_mb = pss_mb(family(*pids))
    row = f"{size.name}, {times}, {name}"
    table, painted = shared.tables.peers, window.ended(observed.paintings)
    add_running(table, row, observed, size.slots, has_gaps=True)
    for kind, cpu_s in observed.cpu.items():
        table.add(row, **{f"{kind} CPU ms/picture": 1000 * cpu_s / painted})
    table.add(row, **{"MB a slot (PSS)": memory_mb / size.slots})
    report_progress(f"{row}: slot use {table.rows[row]['slot use'][-1]:.3f}")
