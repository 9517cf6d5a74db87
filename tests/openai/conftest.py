"""All of Darkroom in this process, on a real socket, with an inference service of the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
import openai
import pytest

from common.runtime.reading_settings import read_settings
from services import embedded
from tests.inference_double import Inference, inference_double
from tests.security import callers
from tests.waiting import until

WITH_IDENTITY = {**callers.settings_of(), "API_KEYS": "true"}
START_S = 20.0


@dataclass
class RunningDarkroom:
    url: str
    inference: Inference
    stop: Callable[[], None]
    _clients: list[openai.AsyncOpenAI] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"{self.url}/openai/v1"

    def client(self, *, token: str = "none", retries: int = 0, **more) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(api_key=token, base_url=self.base_url, max_retries=retries, **more)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    def sync_client(self, *, token: str = "none", retries: int = 0, **more) -> openai.OpenAI:
        return openai.OpenAI(api_key=token, base_url=self.base_url, max_retries=retries, **more)

    async def history(self, token: str = "none") -> list[dict]:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.url}/api/images/history/?status=all&per_page=100") as response,
        ):
            return (await response.json())["images"]


Serve = Callable[..., AbstractAsyncContextManager[RunningDarkroom]]


@pytest.fixture
def serve(tmp_path) -> Serve:
    @asynccontextmanager
    async def serve(models: Sequence[dict] = (), **settings: str) -> AsyncIterator[RunningDarkroom]:
        async with inference_double() as inference:
            inference.capabilities = {"models": list(models)} if models else None
            read = read_settings(
                {
                    "STORE_URL": f"sqlite:///{tmp_path}/darkroom.db",
                    "MEDIA_ROOT": str(tmp_path / "media"),
                    "API_PORT": "0",
                    "INFERENCE_SERVICE_URL": inference.url,
                    "REQUESTS_PER_HOUR": "0",
                    "CONCURRENT_REQUESTS": "0",
                    "RETRY_DELAYS": "0.1",
                    "CIRCUIT_PAUSE": "0.1",
                    "GRACE_PERIOD": "5",
                    "POLL_INTERVAL": "0.5",
                    **settings,
                }
            )
            stopping, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
            task = asyncio.create_task(embedded.up(read, stopping, ready.set_result))
            try:
                await asyncio.wait({task, ready}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    await task
                running = RunningDarkroom(ready.result(), inference, stopping.set)
                if models:
                    await until(partial(lists_models, running.url))
                try:
                    yield running
                finally:
                    await running.close()
            finally:
                inference.released.set()
                stopping.set()
                await task

    return serve


async def lists_models(url: str) -> bool:
    """Whether the generator has announced what it can paint; only for servers without identity."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/api/models/") as response:
        return (await response.json())["known"]


@pytest.fixture
async def darkroom(serve) -> AsyncIterator[RunningDarkroom]:
    """Without identity and without limits."""
    async with serve() as running:
        yield running
