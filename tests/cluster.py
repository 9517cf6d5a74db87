"""Darkroom for tests: services as real processes, a client that acts as a front end."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.media_folder import BUCKETS, IN_BUCKET
from tests.servers.fork_server import ForkedProcess, forked_python
from tests.servers.object_store import Bucket
from tests.servers.process import free_ports
from tests.waiting import LIMIT_S

FINAL = {"completed", "failed", "cancelled"}
READY_S = 60.0
STOP_S = 10.0
ORDER = {"prompt": "a lighthouse at dusk", "width": 64, "height": 64, "steps": 2, "seed": 7}


class Service:
    """One `darkroom` process. Its output goes to a file, which is shown when the process fails."""

    forked = False  # start it by the fork server; tests/conftest.py sets it for all tests

    def __init__(
        self, name: str, *, env: dict[str, str], log: Path, ready_url: str | None, module: str = "services"
    ) -> None:
        self.name = name
        self.ready_url = ready_url
        self.module = module
        self.env = env
        self.log_file = log
        self._process: asyncio.subprocess.Process | ForkedProcess | None = None

    async def start(self) -> None:
        command = "-m", self.module, self.name
        env = {**os.environ, **self.env}
        with self.log_file.open("ab") as output:
            if self.forked:
                self._process = await forked_python(*command, env=env, stdout=output, stderr=output)
            else:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, *command, env=env, stdout=output, stderr=output, start_new_session=True
                )

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def ready(self) -> None:
        """Wait until `ready_url` answers with 200."""
        assert self._process
        assert self.ready_url
        deadline = time.monotonic() + READY_S
        async with aiohttp.ClientSession() as http:
            while not await answers(http, self.ready_url):
                assert self.is_running, f"{self.name} ended with {self._process.returncode}:\n{self.log}"
                assert time.monotonic() < deadline, f"{self.name} is not ready:\n{self.log}"
                await asyncio.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    async def stop(self) -> int:
        """Send SIGTERM; returns the exit status."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    async def wait(self, limit_s: float = LIMIT_S) -> int:
        assert self._process
        async with asyncio.timeout(limit_s):
            return await self._process.wait()

    async def kill(self) -> None:
        assert self._process
        if self.is_running:
            self._process.kill()
        await self._process.wait()

    @property
    def log(self) -> str:
        return self.log_file.read_text()[-6000:]


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    """True if a GET is answered with 200."""
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


class Cluster:
    """Services of one installation, by name, with their settings and folder."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.media: Any = BUCKETS.fresh() if IN_BUCKET else folder / "media"
        in_bucket = self.media.environment if isinstance(self.media, Bucket) else {}
        self.api_port, self.inference_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.api_port}"
        self.settings = {
            "STORE_URL": f"sqlite:///{folder}/darkroom.db",
            "MEDIA_ROOT": str(self.media),
            "API_PORT": str(self.api_port),
            "INFERENCE_PORT": str(self.inference_port),
            "REQUESTS_PER_HOUR": "0",
            "CONCURRENT_REQUESTS": "0",
            "LEASE": "2",
            "RECONCILE_INTERVAL": "1",
            "RECONCILE_GRACE": "2",
            "RETRY_DELAYS": "0.2,0.5,1",
            "CIRCUIT_PAUSE": "0.2",
            "GRACE_PERIOD": "10",
            "POLL_INTERVAL": "0.5",
            **in_bucket,
            **settings,
        }
        self.services: dict[str, Service] = {}

    def add(self, name: str, *, alias: str | None = None, **settings: str) -> Service:
        """Add a process of a service. A service that serves only health gets a port for it."""
        env = {**self.settings, **settings}
        if name in {"up", "api"}:
            port = int(env["API_PORT"])
        elif name == "inference":
            port = int(env["INFERENCE_PORT"])
        else:
            port = free_ports(1)[0]
            env["HEALTH_PORT"] = str(port)
        path = "healthz" if name == "inference" else "readyz"
        alias = alias or name
        log = self.folder / f"{alias}.log"
        service = Service(name, env=env, log=log, ready_url=f"http://127.0.0.1:{port}/{path}")
        self.services[alias] = service
        return service

    async def start(self, *aliases: str) -> None:
        chosen = [self.services[alias] for alias in aliases or self.services]
        for service in chosen:
            await service.start()
        for service in chosen:
            await service.ready()

    async def kill(self) -> None:
        """Kill what still runs. Where coverage is measured, stop it first: a killed process leaves no data."""
        remaining = [service for service in self.services.values() if service.is_running]
        if "COVERAGE_PROCESS_CONFIG" in os.environ:
            await asyncio.gather(*(_stop(service) for service in remaining))
        for service in remaining:
            await service.kill()


async def _stop(service: Service) -> None:
    with suppress(ProcessLookupError, TimeoutError):
        service.signal(signal.SIGTERM)
        await service.wait(STOP_S)


@asynccontextmanager
async def embedded(folder: Path, **settings: str) -> AsyncIterator[Cluster]:
    """All services in one process: `darkroom up`."""
    cluster = Cluster(folder, **settings)
    cluster.add("up")
    async with running(cluster):
        yield cluster


@asynccontextmanager
async def separate(folder: Path, bus_url: str, **settings: str) -> AsyncIterator[Cluster]:
    """Each service as a process of its own on a real RabbitMQ, with two generators."""
    cluster = Cluster(folder, BUS_URL=bus_url, **settings)
    cluster.settings.setdefault("INFERENCE_SERVICE_URL", f"http://127.0.0.1:{cluster.inference_port}")
    cluster.add("inference")
    cluster.add("api")
    cluster.add("generator", alias="generator-1")
    cluster.add("generator", alias="generator-2")
    cluster.add("janitor")
    async with running(cluster):
        yield cluster


@asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[Cluster]:
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.kill()


class FrontEnd:
    """A client of the api: REST and the websocket."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
        return await self.ask("POST", path, json=body, headers=headers)

    async def get(self, path: str) -> tuple[int, dict]:
        return await self.ask("GET", path)

    async def ask(self, method: str, path: str, **more) -> tuple[int, dict]:
        async with self.http.request(method, self.url + path, **more) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else {}

    async def order(self, **fields) -> dict:
        """Request an image without waiting; returns the accepted image."""
        status, image = await self.post("/v1/images/generations", {**ORDER, **fields}, Prefer="respond-async")
        assert status == 202, image
        return image

    async def final(self, image_id: str, limit_s: float = LIMIT_S) -> dict:
        """Poll until the image is final; returns it."""
        async with asyncio.timeout(limit_s):
            while True:
                _, image = await self.get(f"/api/images/{image_id}/")
                if image.get("status") in FINAL:
                    return image
                await asyncio.sleep(0.05)

    async def bytes(self, path: str) -> bytes:
        async with self.http.get(self.url + path) as response:
            assert response.status == 200, (path, response.status)
            return await response.read()

    @asynccontextmanager
    async def socket(self, after: str | None = None) -> AsyncIterator["Events"]:
        query = {"after": after} if after else {}
        async with self.http.ws_connect(self.url + "/ws", params=query) as socket:
            yield Events(socket, json.loads((await socket.receive(10)).data))


class Events:
    """An open websocket: its first frame `hello`, then the frames after it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, hello: dict) -> None:
        self.socket = socket
        self.hello = hello

    async def next(self, limit_s: float = LIMIT_S) -> dict:
        message = await self.socket.receive(limit_s)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return json.loads(message.data)

    async def until_final(self, image_id: str, limit_s: float = LIMIT_S) -> list[dict]:
        """The frames of one image up to its final event."""
        found: list[dict] = []
        async with asyncio.timeout(limit_s):
            while not found or found[-1]["type"].removeprefix("image.") not in {*FINAL, "deleted"}:
                frame = await self.next()
                if frame.get("subject") == image_id:
                    found.append(frame)
        return found


@asynccontextmanager
async def front_end(url: str) -> AsyncIterator[FrontEnd]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield FrontEnd(http, url)
