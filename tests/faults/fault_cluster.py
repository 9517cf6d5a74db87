"""A cluster of real processes with faults: each behind its own proxy to broker and inference service.

api-1  api-2  generator-1 …  janitor-1 …      started through tests/faults/launcher.py, dies at the given points
   └──────┴── proxy each ──┴──▶ broker
                generators ─ proxy ─▶ inference service  (tests/faults/faulty_inference.py)
"""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from common.bus.connect import open_bus
from common.bus.port import Bus, Since
from common.domain.images import new_image_id
from common.messages import JanitorSwept, SweepReport, Tick
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.runtime.settings import Settings
from tests.cluster import Cluster, Service
from tests.proxy import Proxy, proxy_before, proxy_to
from tests.servers.process import free_ports

UUID_LENGTH = 36
LAUNCHER = "tests.faults.launcher"
PAINTER = "tests.faults.faulty_inference"
SETTINGS = {
    "HEARTBEAT": "2",
    "BUS_TIMEOUT": "3",
    "INFERENCE_TIMEOUT": "3",
    "SWEEP_GRACE": "1ms",
    "LOG_LEVEL": "INFO",
}


class FaultCluster(Cluster):
    """The services by alias, with their proxies, journals and inference service."""

    def __init__(self, folder: Path, bus_url: str, stack: AsyncExitStack, **settings: str) -> None:
        super().__init__(folder, BUS_URL=bus_url, **{**SETTINGS, **settings})
        self.bus_url = bus_url
        self.journal = folder / "journal"
        self.paintings: list[Path] = []  # a journal of each inference service
        self.proxies: dict[str, Proxy] = {}
        self.inference_proxies: dict[str, Proxy] = {}
        self.painters: dict[str, int] = {}  # ports
        self.urls: dict[str, str] = {}
        self._stack = stack
        self.journal.touch()

    @property
    def direct_settings(self) -> Settings:
        """Settings of the checker: past the proxies, and patient, as a busy machine is no violation."""
        return read_settings({**self.settings, "BUS_TIMEOUT": "30"})

    async def add_painter(
        self,
        *,
        alias: str = "inference",
        models: Sequence[str] = (),
        faults: float = 0.0,
        odd: float = 0.0,
        paint_s: float = 0.05,
        seed: int = 0,
    ) -> Service:
        """Add an inference service that has these models, or takes any if none is named."""
        port = self.painters[alias] = self.inference_port if alias == "inference" else free_ports(1)[0]
        journal = self.folder / f"paintings-{alias}"
        journal.touch()
        self.paintings.append(journal)
        painter = self.add(
            "inference",
            alias=alias,
            INFERENCE_PORT=str(port),
            PAINTER_MODELS=" ".join(models),
            PAINTER_FAULTS=str(faults),
            PAINTER_ODD=str(odd),
            PAINT_S=str(paint_s),
            PAINTER_SEED=str(seed),
            PAINTER_JOURNAL=str(journal),
        )
        painter.module = PAINTER
        return painter

    async def add_service(
        self, name: str, *, alias: str | None = None, painters: Sequence[str] = ("inference",), **settings: str
    ) -> Service:
        """Add a process behind proxies of its own; a generator has one before each of its inference services."""
        alias = alias or name
        line, bus_url = await self._stack.enter_async_context(proxy_before(self.bus_url))
        self.proxies[alias] = line
        settings = {"BUS_URL": bus_url, "FAULTS_JOURNAL": str(self.journal), **settings}
        if name in {"generator", "up"}:
            settings |= await self._back_ends(alias, painters)
        if name == "api":
            settings["API_PORT"] = str(free_ports(1)[0])
            self.urls[alias] = f"http://127.0.0.1:{settings['API_PORT']}"
        service = self.add(name, alias=alias, **settings)
        service.module = LAUNCHER
        service.forked = True
        return service

    async def _back_ends(self, alias: str, painters: Sequence[str]) -> dict[str, str]:
        """The settings that name these inference services; several have the same names for each generator."""
        urls = [await self._url_of(alias, each) for each in painters]
        if len(urls) == 1:
            return {"INFERENCE_SERVICE_URL": urls[0]}
        path = self.folder / f"{alias}.toml"
        tables = [f'[[backends]]\nname = "{name}"\nurl = "{url}"\n' for name, url in zip(painters, urls, strict=True)]
        path.write_text("\n".join(tables))
        return {"BACKENDS": str(path)}

    async def _url_of(self, alias: str, painter: str) -> str:
        """The URL at which a generator reaches an inference service, through a proxy."""
        port = self.painters.get(painter, self.inference_port)
        line = await self._stack.enter_async_context(proxy_to("127.0.0.1", port))
        self.inference_proxies[alias if alias not in self.inference_proxies else f"{alias} {painter}"] = line
        return f"http://{line.address}"

    async def restart(self, alias: str, faults: str = "") -> None:
        """Start a service that has ended, with these faults."""
        service = self.services[alias]
        service.env["FAULTS"] = faults
        await service.start()
        await service.ready()

    def bus(self) -> AbstractAsyncContextManager[Bus]:
        """The bus of an operator, past the proxies."""
        return open_bus(self.direct_settings, name="test", clock=SystemClock())

    async def sweep(self) -> SweepReport:
        """Make a janitor compare files and records now; returns its report."""
        now = SystemClock().now()
        async with self.bus() as bus:
            await bus.tick(Tick(id=new_image_id(now), source="test", type="timer.sweep", time=now))
            async with asyncio.timeout(60), aclosing(bus.read(Since(now))) as entries:
                async for entry in entries:
                    if isinstance(entry.event, JanitorSwept) and entry.event.time >= now:
                        return entry.event.data
        raise AssertionError("the log has no end")

    async def wait_killed(self, alias: str, limit_s: float = 30) -> None:
        """Wait until a fault has killed it."""
        status = await self.services[alias].wait(limit_s)
        assert status == -signal.SIGKILL, f"{alias} ended with {status}:\n{self.services[alias].log}"

    def is_stopped(self, alias: str) -> bool:
        """True if it is stopped by SIGSTOP."""
        stat = Path(f"/proc/{self.services[alias].pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    @property
    def faults(self) -> Counter[str]:
        """The faults in the journal, such as `SIGKILL before claim`."""
        lines = self.journal.read_text().splitlines()
        return Counter(line for line in lines if line.startswith("SIG"))

    @property
    def delivered(self) -> Counter[str]:
        """Deliveries to generators by image."""
        return Counter(image_id for image_id, _ in self._deliveries())

    @property
    def generators(self) -> dict[str, set[int]]:
        """The processes that a command of each image was delivered to."""
        found: dict[str, set[int]] = {}
        for image_id, process in self._deliveries():
            found.setdefault(image_id, set()).add(process)
        return found

    def _deliveries(self) -> list[tuple[str, int]]:
        lines = [line.split() for line in self.journal.read_text().splitlines()]
        return [(line[1].lower(), int(line[2])) for line in lines if line[0] == "delivered"]

    @property
    def odd_answers(self) -> Counter[str]:
        """The odd answers of the inference service, by kind."""
        lines = [line for journal in self.paintings for line in journal.read_text().splitlines()]
        return Counter(line.removeprefix("odd ").partition(":")[0] for line in lines if line.startswith("odd "))

    def painted(self, outcome: str = "painted") -> Counter[str]:
        """Paintings with this outcome by image, whatever key they were requested under."""
        return sum((_painted(journal, outcome) for journal in self.paintings), Counter())

    def painted_at_one(self) -> Counter[str]:
        """Finished paintings by the key of their request, at the inference service with the most of that key.

        An image whose back end cannot be reached is painted by another one, which knows nothing of the first. If the
        picture of the other one is refused, the first one gets the image again under another key.
        """
        found: Counter[str] = Counter()
        for journal in self.paintings:
            found |= Counter(_keys(journal, "painted"))
        return found

    async def kill(self) -> None:
        for service in self.services.values():
            if service.is_running:
                with contextlib.suppress(ProcessLookupError):
                    service.signal(signal.SIGCONT)
        await super().kill()


@asynccontextmanager
async def fault_cluster(folder: Path, bus_url: str, **settings: str) -> AsyncIterator[FaultCluster]:
    """A cluster without services; every process in it is killed at the end."""
    async with AsyncExitStack() as stack:
        cluster = FaultCluster(folder, bus_url, stack, **settings)
        stack.push_async_callback(cluster.kill)
        yield cluster


def _painted(journal: Path, outcome: str) -> Counter[str]:
    return Counter(key[:UUID_LENGTH] for key in _keys(journal, outcome))


def _keys(journal: Path, outcome: str) -> list[str]:
    return [line.split()[1] for line in journal.read_text().splitlines() if line.startswith(f"{outcome} ")]
