"""The processes that benchmarks run against: broker, Redis for arq, stub inference service, contenders, Darkroom."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from benchmarks.samples import SAMPLES
from tests.cluster import Cluster
from tests.servers import rabbitmq
from tests.servers.process import Process, free_ports
from tests.servers.rabbitmq import RabbitMQ

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-bench" / "bin"
READY_S = 30.0

# Defaults, but without limits, because one owner makes all requests here.
SETTINGS = {
    "REQUESTS_PER_HOUR": "0",
    "CONCURRENT_REQUESTS": "0",
    "LEASE": "30",
    "RECONCILE_INTERVAL": "15",
    "RECONCILE_GRACE": "10",
    "POLL_INTERVAL": "2",
    "GENERATION_DEADLINE": "3600",
    "INFERENCE_SERVICE_API_KEY": "",
}


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="darkroom-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def broker() -> Iterator[RabbitMQ]:
    server = rabbitmq.open_broker()
    try:
        yield server
    finally:
        server.close()


def broker_pids() -> list[int]:
    """The Erlang process of our broker: a descendant of this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
                mine = _is_below(int(entry.name), os.getpid())
            except OSError:
                continue
            if b"beam.smp" in command and mine:
                found.append(int(entry.name))
    return found


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


@contextmanager
def redis(path: Path) -> Iterator[str]:
    """A Redis with its append-only log, synced every second, and without snapshots.

    Raises:
        LookupError: it is not installed.
    """
    executable = shutil.which("redis-server")
    if executable is None:
        raise LookupError("no Redis: apt-get install redis-server")
    (port,) = free_ports(1)
    options = {"port": str(port), "bind": "127.0.0.1", "dir": str(path), "save": "", "appendonly": "yes"}
    command = [executable, *(part for name, value in options.items() for part in (f"--{name}", value))]
    server = Process(command, folder=path, env=dict(os.environ), log=path / "redis.log")
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.stop()


class InstantInference:
    """The process of `benchmarks.instant_inference`; `show` chooses the image of its answers."""

    def __init__(self, port: int, file: Path, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.file = file
        self.pid = process.pid

    async def show(self, sample: str) -> None:
        content = SAMPLES[sample]()
        self.file.write_bytes(content)
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/change") as response:
            response.raise_for_status()


@asynccontextmanager
async def stub(path: Path) -> AsyncIterator[InstantInference]:
    (port,) = free_ports(1)
    file = path / "sample"
    file.write_bytes(b"")
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.instant_inference", str(port), str(file)], cwd=ROOT)
    found = InstantInference(port, file, process)
    try:
        await until(lambda: is_listening(port), "the stub")
        yield found
    finally:
        process.terminate()
        process.wait()


class LineProcess:
    """A process that takes `START COUNT` a line and answers `ok` when that is done."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self._process.pid

    def expect(self, word: str) -> None:
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        if line != word:
            raise RuntimeError(f"{self._process.args!r} said {line!r}, not {word!r}")

    def send(self, start: int, count: int) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{start} {count}\n")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def worker(command: list[str], env: dict[str, str], log: Path) -> Iterator[int]:
    """A peer's worker, until the end of the block; yields its pid."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


@contextmanager
def peer(
    name: str, workers: Iterable[list[str]], env: dict[str, str], folder: Path
) -> Iterator[tuple[LineProcess, list[int]]]:
    """A peer that is ready: the process that enqueues its jobs, and the pids of its workers."""
    with ExitStack() as stack:
        pids = []
        for program, *options in workers:
            command = [str(PEERS / "python"), str(PEERS / program), *options]
            pids.append(stack.enter_context(worker(command, env, folder / "worker.log")))
        enqueue = [str(PEERS / "python"), "-m", "benchmarks.peers.enqueue", f"with_{name.lower()}"]
        lines = LineProcess(enqueue, env)
        stack.callback(lines.close)
        lines.expect("ready")
        yield lines, pids


def cluster(path: Path, *, bus_url: str | None, stub_url: str, generators: int = 2, **settings: str) -> Cluster:
    """Darkroom: in one process without a bus, else api, generators and janitor on RabbitMQ."""
    path.mkdir(parents=True, exist_ok=True)
    found = Cluster(path, **{**SETTINGS, "INFERENCE_SERVICE_URL": stub_url, **settings})
    if bus_url is None:
        found.add("up")
        return found
    found.settings["BUS_URL"] = bus_url
    found.add("api")
    for number in range(generators):
        found.add("generator", alias=f"generator-{number + 1}")
    found.add("janitor")
    return found


async def until(is_so: Callable[[], bool], what: str, *, limit_s: float = READY_S, pause_s: float = 0.02) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit_s:g} s")
        await asyncio.sleep(pause_s)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
