"""An upgrade without a pause: services of an older revision beside new ones, on one bus and one store.

`make test-upgrade` runs it, and sets up the older code in .tools/upgrade. The order is that of docs/operating.md.
"""

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.bus.connect import open_bus
from common.bus.port import Bus
from common.domain.images import new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from tests.cluster import FINAL, ORDER, Cluster, Service
from tests.inference_double import inference_double, paint
from tests.servers.process import free_ports

ROOT = Path(__file__).parents[2]
OLD = ROOT / ".tools/upgrade"
PAGE = (ROOT / "docs/operating.md").read_text()
STEPS = ("janitor", "generator-1", "generator-2", "webhooks", "api")
OPEN = 6  # orders that are not final, at most
BETWEEN = 8  # orders that are finished before the next step of the upgrade
LIMIT_S = 120.0  # of one step, on a busy machine

pytestmark = pytest.mark.timeout(600)


class OldService(Service):
    """A process of the older code, in its own environment."""

    async def start(self) -> None:
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(OLD / ".venv/bin/python"), "-m", "services", self.name,
                cwd=OLD, env={**os.environ, **self.env}, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip


class OrderFlow:
    """Orders without end, in turn by each api and by the bus; every one has to be completed."""

    def __init__(self, http: aiohttp.ClientSession, bus: Bus) -> None:
        self.http = http
        self._bus = bus
        self.apis: list[str] = []
        self._turn = itertools.count(1)
        self._progress = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.open: set[str] = set()
        self.by_bus: set[str] = set()
        self.finished: dict[str, dict] = {}

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Let orders flow; at the end, every order that was accepted is waited for."""
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(lambda _: self._progress.set())
        try:
            yield
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
            async with asyncio.timeout(LIMIT_S):
                while self.open:
                    await self.look()
                    await asyncio.sleep(0.05)
        finally:
            self._running.cancel()

    async def _run(self) -> None:
        """Never returns."""
        while True:
            number = next(self._turn)
            if len(self.open) < OPEN:
                self.open.add(await (self._by_bus(number) if number % 3 == 0 else self._by_api(number)))
            await self.look()
            await asyncio.sleep(0.02)

    async def _by_api(self, number: int) -> str:
        """Order as docs/clients.md tells clients to: after a lost answer again, with the same key, at any api."""
        headers = {"Prefer": "respond-async", "Idempotency-Key": f"order-{number}"}
        for attempt in itertools.count(number):
            api = self.apis[attempt % len(self.apis)]
            body = {**ORDER, "seed": number}
            with suppress(aiohttp.ClientConnectionError):
                async with self.http.post(f"{api}/v1/images/generations", json=body, headers=headers) as response:
                    answer = await response.json()
                    if response.status < 500:
                        assert response.status in {200, 202}, answer
                        return str(answer["id"])
            await asyncio.sleep(0.05)
        raise AssertionError

    async def _by_bus(self, number: int) -> str:
        now = SystemClock().now()
        request = GenerationRequest(prompt="by the bus", width=64, height=64, steps=2, seed=number)
        command = GenerateImage(id=new_image_id(now), source="shop", owner="local", time=now, data=request)
        await self._bus.send(command)
        self.by_bus.add(command.id)
        return command.id

    async def look(self) -> None:
        """Read the open orders at the api that is the newest."""
        for image_id in sorted(self.open):
            with suppress(aiohttp.ClientConnectionError):
                async with self.http.get(f"{self.apis[-1]}/api/images/{image_id}/") as response:
                    image = await response.json()
                    assert response.status == 200 or image_id in self.by_bus, image
                if image.get("status") in FINAL:
                    self.finished[image_id] = image
                    self.open.discard(image_id)
                    self._progress.set()

    async def until_finished(self, count: int) -> None:
        """Wait until so many orders that were made after this call are final."""
        assert self._running is not None
        before = {*self.open, *self.finished}
        async with asyncio.timeout(LIMIT_S):
            while len(self.finished.keys() - before) < count:
                if self._running.done():
                    await self._running  # raises what has ended it
                self._progress.clear()
                await self._progress.wait()


class RollingUpgrade:
    """The services by their number; each is of the older code until it is replaced."""

    def __init__(self, cluster: Cluster, flow: OrderFlow) -> None:
        self.cluster = cluster
        self.flow = flow
        self._running: dict[str, Service] = {}

    def _add(self, name: str, alias: str) -> Service:
        port = str(free_ports(1)[0])
        return self.cluster.add(name, alias=alias, **({"API_PORT": port} if name == "api" else {}))

    async def start_old(self, *names: str) -> None:
        for name in names:
            service = self._add(name.partition("-")[0], f"old-{name}")
            old = OldService(service.name, env=service.env, log=service.log_file, ready_url=service.ready_url)
            self.cluster.services[f"old-{name}"] = self._running[name] = old
            await old.start()
        for name in names:
            await self._running[name].ready()
            self._noted(self._running[name])

    async def replace(self, name: str) -> None:
        """Start a new process, let both work for a while, then stop the old one as an upgrade does."""
        new = self._add(name.partition("-")[0], f"new-{name}")
        await new.start()
        await new.ready()
        self._noted(new)
        await self.flow.until_finished(BETWEEN)
        old = self._running.pop(name, None)
        self._running[name] = new
        if old is None:  # the older release has no such service
            return
        if new.name == "generator":  # not only the faster one
            for each in (old, new):
                await self._until_it_has_painted(each)
        if old.name == "api":
            self.flow.apis.remove(url_of(old))
        assert await old.stop() == 0, old.log
        await self.flow.until_finished(BETWEEN)

    async def _until_it_has_painted(self, service: Service) -> None:
        """By its own metrics, which both releases have."""
        count = 0.0
        while not count:
            await self.flow.until_finished(1)
            async with self.flow.http.get(f"{url_of(service)}/metrics") as response:
                found = re.findall(
                    r'^darkroom_attempts_total\{.*"completed".*\} (\S+)$', await response.text(), re.MULTILINE
                )
            count = sum(map(float, found))

    def _noted(self, service: Service) -> None:
        if service.name == "api":
            self.flow.apis.append(url_of(service))


def url_of(service: Service) -> str:
    assert service.ready_url
    return service.ready_url.removesuffix("/readyz")


async def paint_slowly(request: web.Request, order: dict) -> web.Response:
    await asyncio.sleep(0.1)
    return await paint(request, order)


@pytest.mark.parametrize("kind", ["sqlite", "mongodb"])
async def test_orders_survive_an_upgrade(kind, request, tmp_path, vhost):
    """In the order of STEPS: each new process works beside the older ones before it takes the place of one.

    No order is lost or failed, whichever api or publisher made it, and every picture is served by the new api.
    """
    store = {"STORE_URL": request.getfixturevalue("database")} if kind == "mongodb" else {}
    async with inference_double() as inference, aiohttp.ClientSession() as http:
        inference.always(paint_slowly)
        cluster = Cluster(tmp_path, BUS_URL=vhost, INFERENCE_SERVICE_URL=inference.url, **store)
        cluster.settings |= {"CONCURRENT_REQUESTS": "4", "WAITING_REQUESTS": "0", "LEASE": "10"}
        try:
            async with open_bus(read_settings({"BUS_URL": vhost}), name="shop", clock=SystemClock()) as bus:
                flow = OrderFlow(http, bus)
                upgrade = RollingUpgrade(cluster, flow)
                await upgrade.start_old("janitor", "generator-1", "generator-2", "api")
                async with flow.flowing():
                    await flow.until_finished(BETWEEN)
                    for name in STEPS:
                        await upgrade.replace(name)
            [api] = flow.apis
            for image in flow.finished.values():
                async with http.get(api + image["imageUrl"]) as picture:
                    assert picture.status == 200
        finally:
            await cluster.kill()

    assert len(flow.finished) >= 9 * BETWEEN
    assert len(flow.by_bus) > BETWEEN
    failed = {image_id: image for image_id, image in flow.finished.items() if image["status"] != "completed"}
    assert failed == {}


def test_the_order_is_the_documented_one():
    [order] = re.findall(
        r"first the (janitors), then the (generators), then the (webhook)\s+services, then the (apis)", PAGE
    )

    assert [word.rstrip("s") for word in order] == list(
        dict.fromkeys(step.partition("-")[0].rstrip("s") for step in STEPS)
    )
