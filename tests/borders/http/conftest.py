"""An api on a real socket, without a generator, with its bus, store and media at hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.media.connect import open_media
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.api.service import api_running
from tests.media_folder import media_in
from tests.servers.object_store import Bucket

CLOCK = SystemClock()
ORDERS = "/v1/images/generations"
NO_LIMITS = {"REQUESTS_PER_HOUR": "0", "CONCURRENT_REQUESTS": "0"}


@dataclass
class Api:
    url: str
    port: int
    http: aiohttp.ClientSession
    bus: MemoryBus
    store: SqliteStore
    media: object

    async def ask(self, method: str, path: str, **more) -> tuple[int, Mapping[str, str], dict]:
        """Status, headers and JSON body of an answer."""
        async with self.http.request(method, self.url + path, **more) as response:
            body = await response.read()
            is_json = "json" in response.content_type
            return response.status, response.headers, json.loads(body) if is_json and body else {}

    async def send(self, *lines: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A request by hand, on a connection of its own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = [lines[0], *([] if any(line.startswith("Host:") for line in lines) else ["Host: 127.0.0.1"]), *lines[1:]]
        writer.write("\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body)
        await writer.drain()
        return reader, writer

    async def counted(self, status: int) -> int:
        """How many POSTs for images were answered with this status."""
        async with self.http.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        wanted = [f'route="{ORDERS}"', f'status="{status}"', "_count{"]
        return sum(int(float(line.split()[-1])) for line in lines if all(part in line for part in wanted))


@pytest.fixture
def serve(tmp_path) -> Callable[..., AbstractAsyncContextManager[Api]]:
    @asynccontextmanager
    async def serve(*, wrap=lambda store: store, bucket: Bucket | None = None, **settings: str) -> AsyncIterator[Api]:
        """`wrap` puts something between the api and its store; with a bucket, the media are there."""
        read = read_settings(
            {"API_PORT": "0", "GRACE_PERIOD": "5", **NO_LIMITS, **(bucket.environment if bucket else {}), **settings}
        )
        async with (
            MemoryBus() as bus,
            SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
            open_media(bucket.root, read) if bucket else media_in(tmp_path / "media") as media,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
            api_running(read, Resources(bus, wrap(store), media, CLOCK)) as port,
        ):
            yield Api(f"http://127.0.0.1:{port}", port, http, bus, store, media)

    return serve
