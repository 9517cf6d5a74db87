"""Throughput of the pipeline: Darkroom beside Pillow alone, Celery, dramatiq, taskiq, arq.

Images a second, worker CPU, latency and memory. Every contender does the work of `benchmarks/job.py` on the same bytes
from the same stub, with four concurrent images; Darkroom does it by its own code with all its guarantees. The time runs
from the first request to the last row (Darkroom: the last completed event at a websocket), without worker start-up and
warm-up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import job, servers
from benchmarks.load import load
from benchmarks.measurements import CpuUsage, Table, arguments, memory_mib, percentile, report_progress, save_results
from benchmarks.samples import SAMPLES
from tests.cluster import running
from tests.servers.rabbitmq import RabbitMQ

WARM_UP = 8
RATES = (8, 25)
PILLOW = "Pillow alone"
DARKROOM = "Darkroom"
PEERS = ("Celery", "dramatiq", "taskiq", "arq")


@dataclass(frozen=True, slots=True)
class SharedServers:
    """The folder and servers that all contenders of a run share."""

    folder: Path
    broker: RabbitMQ
    redis_url: str
    stub: servers.InstantInference


class Contender(Protocol):
    pids: list[int]

    async def do(self, start: int, count: int) -> float: ...  # seconds


class PillowOnly:
    """Pillow in two processes of two threads."""

    def __init__(self, lines: list[servers.LineProcess]) -> None:
        self._lines = lines
        self.pids = [each.pid for each in lines]

    async def do(self, start: int, count: int) -> float:
        began = time.perf_counter()
        half = count // 2
        self._lines[0].send(start, half)
        self._lines[1].send(start + half, count - half)
        for each in self._lines:
            await asyncio.to_thread(each.expect, "ok")
        return time.perf_counter() - began


class Peer:
    def __init__(self, folder: Path, lines: servers.LineProcess, pids: list[int]) -> None:
        self._folder = folder
        self._lines = lines
        self.pids = pids

    async def do(self, start: int, count: int) -> float:
        wanted = job.rows(self._folder) + count
        began = time.perf_counter()
        self._lines.send(start, count)
        await servers.until(lambda: job.rows(self._folder) >= wanted, "the rows", limit_s=300, pause_s=0.01)
        took = time.perf_counter() - began
        await asyncio.to_thread(self._lines.expect, "ok")
        return took


class Darkroom:
    def __init__(self, url: str, pids: list[int]) -> None:
        self._url = url
        self.pids = pids

    async def do(self, start: int, count: int) -> float:
        async with load(self._url) as ordering:
            return await ordering.flood(count)


@contextmanager
def pillow_only(shared: SharedServers, folder: Path) -> Iterator[PillowOnly]:
    job.prepare(folder)
    command = [sys.executable, "-m", "benchmarks.pillow_only", str(shared.stub.file), str(folder)]
    lines = [servers.LineProcess(command, {}) for _ in range(2)]
    try:
        for each in lines:
            each.expect("ready")
        yield PillowOnly(lines)
    finally:
        for each in lines:
            each.close()


WORKERS = {
    "Celery": [["celery", "-A", "benchmarks.peers.with_celery", "worker", "-c", "4", "--loglevel", "WARNING"]],
    "dramatiq": [["dramatiq", "benchmarks.peers.with_dramatiq", "--processes", "2", "--threads", "2"]],
    "taskiq": [["taskiq", "worker", "benchmarks.peers.with_taskiq:broker", "-w", "2", "--max-async-tasks", "2"]],
    "arq": [["arq", "benchmarks.peers.with_arq.ArqWorker"]] * 2,
}


@contextmanager
def peer(name: str, shared: SharedServers, folder: Path) -> Iterator[Peer]:
    """A peer with its workers, warm."""
    job.prepare(folder)
    env = {
        "BENCH_STUB": shared.stub.url,
        "BENCH_FOLDER": str(folder),
        "BENCH_BROKER": shared.broker.fresh_vhost(),
        "BENCH_REDIS": shared.redis_url,
        "PYTHONPATH": str(servers.ROOT),
    }
    with servers.peer(name, WORKERS[name], env, folder) as (lines, pids):
        yield Peer(folder, lines, pids)


@asynccontextmanager
async def contender(name: str, shared: SharedServers, folder: Path) -> AsyncIterator[Contender]:
    folder.mkdir()
    if name == PILLOW:
        with pillow_only(shared, folder) as found:
            yield found
    elif name == DARKROOM:
        cluster = servers.cluster(folder, bus_url=shared.broker.fresh_vhost(), stub_url=shared.stub.url)
        async with running(cluster):
            workers = [service.pid for alias, service in cluster.services.items() if alias.startswith("generator")]
            yield Darkroom(cluster.url, workers)
    else:
        with peer(name, shared, folder) as ready:
            yield ready


async def throughput(shared: SharedServers, *, size: int, rounds: int) -> list[Table]:
    columns = ("images/s", "over Pillow", "worker CPU ms/image", "CPU over Pillow", "peak MiB")
    tables = {sample: Table(f"Pipeline, {sample}: {size} images", columns, head="contender") for sample in SAMPLES}
    for number in range(rounds):
        for name in (PILLOW, *PEERS, DARKROOM):
            where = shared.folder / f"{name.replace(' ', '-')}-{number}"
            async with contender(name, shared, where) as runner:
                start = 0
                for sample, table in tables.items():
                    await shared.stub.show(sample)
                    await runner.do(start, WARM_UP)
                    watch = CpuUsage({"workers": runner.pids})
                    took = await runner.do(start + WARM_UP, size)
                    start += WARM_UP + size
                    spent = watch.spent()["workers"]
                    table.add(
                        name,
                        **{
                            "images/s": size / took,
                            "worker CPU ms/image": spent / size * 1000,
                            "peak MiB": memory_mib(runner.pids),
                        },
                    )
            report_progress(f"round {number + 1}: {name}")
    for table in tables.values():
        for name in list(table.rows):
            for column, of in (("over Pillow", "images/s"), ("CPU over Pillow", "worker CPU ms/image")):
                for ratio in table.ratios(name, PILLOW, of):
                    table.add(name, **{column: ratio})
    return list(tables.values())


async def latency(shared: SharedServers, *, size: int, rounds: int) -> Table:
    """Requests at a steady rate: in one process, then as services on RabbitMQ, with the same stub."""
    table = Table("POST to completed event, ms", ("p50", "p99", "p50 more", "p99 more"), head="case")
    for number in range(rounds):
        for sample, rate in (("JPEG", RATES[0]), ("JPEG", RATES[1]), ("noisy PNG", RATES[0])):
            await shared.stub.show(sample)
            found: dict[str, list[float]] = {}
            for where, bus_url in (("one process", None), ("RabbitMQ", shared.broker.fresh_vhost())):
                path = shared.folder / f"latency-{where.replace(' ', '-')}-{sample.replace(' ', '-')}-{rate}-{number}"
                cluster = servers.cluster(path, bus_url=bus_url, stub_url=shared.stub.url)
                async with running(cluster), load(cluster.url) as ordering:
                    await ordering.flood(WARM_UP)
                    ordering.forget()
                    times = await ordering.drip(min(size, rate * 12), per_s=rate)
                    found[where] = [1000 * percentile(times, share) for share in (0.5, 0.99)]
                row = f"{sample}, {rate}/s, {where}"
                table.add(row, p50=found[where][0], p99=found[where][1])
                if bus_url:
                    more = [there - here for there, here in zip(found[where], found["one process"], strict=True)]
                    table.add(row, p50_more=more[0], p99_more=more[1])
        report_progress(f"round {number + 1}: latency")
    return table


async def main(size: int, rounds: int) -> None:
    with servers.folder() as folder, servers.broker() as broker, servers.redis(folder) as redis_url:
        async with servers.stub(folder) as stub:
            shared = SharedServers(folder, broker, redis_url, stub)
            tables = await throughput(shared, size=size, rounds=rounds)
            tables.append(await latency(shared, size=size, rounds=rounds))
    save_results("pipeline", tables, size=size, rounds=rounds)


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", size=100, rounds=3)
    asyncio.run(main(chosen.size, chosen.rounds))
