"""The stub and the processes of a fleet: three apis, many generators, a janitor on RabbitMQ and one SQLite file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks import servers
from benchmarks.fleet.orders import OwnersLoad, owners_load
from benchmarks.fleet.slots import SlotPainting, SteadyWindow
from benchmarks.measurements import CpuUsage, machine_cpu_s, pss_mb
from tests.cluster import Cluster
from tests.security import callers
from tests.servers.process import free_ports

APIS = 3
MOST = 50  # slots of one back end; a generator with more slots has several


@dataclass(frozen=True, slots=True)
class FleetSize:
    """So many generators with so many slots each, which need `mean_s` for a picture."""

    generators: int
    each: int
    mean_s: float

    @property
    def slots(self) -> int:
        return self.generators * self.each

    @property
    def per_s(self) -> float:
        """The pictures that all slots can paint in a second."""
        return self.slots / self.mean_s

    @property
    def name(self) -> str:
        return f"{self.slots:,} slots of {self.mean_s:g} s"


class SlotStub:
    """The process of `benchmarks.fleet.stub`."""

    def __init__(self, url: str, http: aiohttp.ClientSession, pid: int) -> None:
        self.url = url
        self.pid = pid
        self._http = http

    async def plan(self, mean_s: float, *, is_equal: bool, aged: int = 0, together: int = 0) -> None:
        body = {"mean_s": mean_s, "is_equal": is_equal, "aged": aged, "together": together}
        async with self._http.post(f"{self.url}/plan", json=body) as response:
            response.raise_for_status()

    async def paintings(self) -> list[SlotPainting]:
        async with self._http.get(f"{self.url}/paintings") as response:
            return [SlotPainting(*each) for each in await response.json()]

    async def busy(self) -> dict[str, int]:
        """How many paintings each group has now."""
        async with self._http.get(f"{self.url}/busy") as response:
            found: dict[str, int] = await response.json()
            return found

    async def until_busy(self, slots: int, *, groups: Iterable[str] | None = None, limit_s: float = 120) -> None:
        chosen = None if groups is None else set(groups)
        async with asyncio.timeout(limit_s):
            while sum(n for group, n in (await self.busy()).items() if chosen is None or group in chosen) < slots:
                await asyncio.sleep(0.1)


@asynccontextmanager
async def slot_stub() -> AsyncIterator[SlotStub]:
    (port,) = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.fleet.stub", str(port)], cwd=servers.ROOT)
    try:
        await servers.until(lambda: servers.is_listening(port), "the stub")
        async with aiohttp.ClientSession() as http:
            yield SlotStub(f"http://127.0.0.1:{port}", http, process.pid)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen in a steady state. CPU is in seconds, by the name of the group of processes."""

    window: SteadyWindow
    cpu: dict[str, float]
    machine_cpu: float  # share of all cores
    paintings: list[SlotPainting]


@dataclass(slots=True)
class SlotFleet:
    """A running fleet with its orders."""

    size: FleetSize
    cluster: Cluster
    stub: SlotStub
    load: OwnersLoad

    @property
    def generators(self) -> list[str]:
        """The names of those that run."""
        services = self.cluster.services.items()
        return [name for name, service in services if name.startswith("generator") and service.is_running]

    def pids(self, kind: str) -> list[int]:
        services = self.cluster.services.items()
        return [service.pid for name, service in services if name.startswith(kind) and service.is_running]

    async def add_generators(self, count: int) -> list[str]:
        """Start more generators, all at once; returns their names, which are their groups at the stub as well."""
        names = [f"generator-{len(self.cluster.services) + number}" for number in range(count)]
        for name in names:
            self._add(name)
        await self.cluster.start(*names)
        return names

    def _add(self, name: str) -> None:
        back_ends = -(-self.size.each // MOST)
        self.cluster.add(
            "generator",
            alias=name,
            INFERENCE_SERVICE_URL=" ".join(f"{self.stub.url}/{name}/{number}" for number in range(back_ends)),
            GENERATOR_CONCURRENCY=str(self.size.each // back_ends),
        )

    async def observe(self, seconds: float) -> Observed:
        kinds = {kind: self.pids(kind) for kind in ("generator", "api", "janitor")}
        usage = CpuUsage({**kinds, "broker": servers.broker_pids(), "stub": [self.stub.pid]})
        began_s, busy_s = time.monotonic(), machine_cpu_s()
        await asyncio.sleep(seconds)
        window = SteadyWindow(began_s, time.monotonic())
        busy_s = machine_cpu_s() - busy_s
        return Observed(window, usage.spent(), busy_s / window.seconds, await self.stub.paintings())

    def memory_mb(self) -> float:
        """Proportional set size of all generators: pages that they share count once."""
        return pss_mb(self.pids("generator"))


@asynccontextmanager
async def fleet(
    size: FleetSize, folder: Path, bus_url: str, stub: SlotStub, **settings: str
) -> AsyncIterator[SlotFleet]:
    folder.mkdir(parents=True)
    own = {"BUS_URL": bus_url, "INFERENCE_TIMEOUT": "900", "WAITING_REQUESTS": "0"}
    cluster = Cluster(folder, **{**servers.SETTINGS, **callers.settings_of(), **own, **settings})
    ports = free_ports(APIS)
    for number, port in enumerate(ports):
        cluster.add("api", alias=f"api-{number}", API_PORT=str(port))
    cluster.add("janitor")
    try:
        await cluster.start()
        async with owners_load([f"http://127.0.0.1:{port}" for port in ports]) as load:
            found = SlotFleet(size, cluster, stub, load)
            await found.add_generators(size.generators)
            yield found
    finally:
        await cluster.kill()
