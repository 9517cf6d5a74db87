"""Start time of `--help` and of each service, CPU and memory of an idle service.

`cold` is the first start on a fresh folder; the environment is there, as after a first `make run`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import servers
from benchmarks.measurements import CpuUsage, Table, arguments, memory_mib, report_progress, save_results
from tests.cluster import Cluster, running
from tests.servers.rabbitmq import RabbitMQ

DARKROOM = [sys.executable, "-m", "services"]


async def starts(folder: Path, broker: RabbitMQ, stub: servers.InstantInference, table: Table, number: int) -> None:
    began = time.perf_counter()
    subprocess.run([*DARKROOM, "--help"], check=True, capture_output=True, cwd=servers.ROOT)
    table.add("`darkroom --help`", seconds=time.perf_counter() - began)
    cluster = Cluster(folder / f"start-up-{number}", **servers.SETTINGS)
    cluster.folder.mkdir()
    cluster.add("up")
    await _start(cluster, "up", table, "`make run` to ready, cold")
    status = await cluster.services["up"].stop()
    if status:
        raise RuntimeError(f"up ended with {status}")
    await _start(cluster, "up", table, "`make run` to ready, again")
    await cluster.kill()
    services = servers.cluster(
        folder / f"start-services-{number}", bus_url=broker.fresh_vhost(), stub_url=stub.url, generators=1
    )
    for alias in list(services.services):
        await _start(services, alias, table, f"{alias.removesuffix('-1')} to ready, on RabbitMQ")
    await services.kill()


async def _start(cluster: Cluster, alias: str, table: Table, row: str) -> None:
    service = cluster.services[alias]
    began = time.perf_counter()
    await service.start()
    await service.ready()
    table.add(row, seconds=time.perf_counter() - began)


async def idle(
    folder: Path, broker: RabbitMQ, stub: servers.InstantInference, table: Table, *, number: int, s: int
) -> None:
    cluster = servers.cluster(folder / f"idle-{number}", bus_url=broker.fresh_vhost(), stub_url=stub.url, generators=1)
    pillow_only = servers.cluster(folder / f"idle-up-{number}", bus_url=None, stub_url=stub.url)
    async with running(cluster), running(pillow_only):
        groups = {
            **{alias.removesuffix("-1"): [service.pid] for alias, service in cluster.services.items()},
            "everything in one process": [pillow_only.services["up"].pid],
        }
        await asyncio.sleep(2)
        watch = CpuUsage(groups)
        await asyncio.sleep(s)
        spent = watch.spent()
        for name, pids in groups.items():
            used = {"CPU %": spent[name] / watch.wall_s * 100, "resident MiB": memory_mib(pids, what="VmRSS")}
            table.add(name, **used)


async def main(size: int, rounds: int) -> None:
    starting = Table("Start", ("seconds",), head="what")
    idling = Table(f"Idle, over {size} s", ("CPU %", "resident MiB"), head="service")
    with servers.folder() as folder, servers.broker() as broker:
        async with servers.stub(folder) as stub:
            for number in range(rounds):
                await starts(folder, broker, stub, starting, number)
                await idle(folder, broker, stub, idling, number=number, s=size)
                report_progress(f"round {number + 1}: start and idle")
    save_results("start", [starting, idling], size=size, rounds=rounds)


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", size=20, rounds=3)
    asyncio.run(main(chosen.size, chosen.rounds))
