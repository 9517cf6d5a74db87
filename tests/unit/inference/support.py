"""An engine that tests can hold and watch, with the app over real HTTP."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from common.runtime.clock import SystemClock
from services.inference.app import KEEP_ALIVE_S, build_app
from services.inference.engine import EngineCapabilities, InferenceRequest, ModelCard, OnStep, PaintedPicture
from services.inference.jobs import PaintQueue

PATH = "/inference/images/generations"


class FakeEngine:
    """Takes a step each time `go` is released (at once with `go=None`), and remembers what it did."""

    name = "fake"
    loading: tuple[str, ...] = ()

    def __init__(
        self, *, gated: bool = False, error: Exception | None = None, can: EngineCapabilities | None = None
    ) -> None:
        self.go = threading.Semaphore(0)
        self.painted: list[InferenceRequest] = []
        self.steps: list[int] = []
        self.began, self.left = threading.Event(), threading.Event()
        self.error = error
        self._gated, self._can = gated, can

    def capabilities(self) -> EngineCapabilities:
        card = ModelCard(id="sdxl", name="Fake", samplers=("Euler",), max_width=1024)
        return self._can or EngineCapabilities(engine="fake", notice="", models=(card,), samplers=("Euler",))

    def paint(self, order: InferenceRequest, on_step: OnStep) -> PaintedPicture:
        self.painted.append(order)
        self.began.set()
        try:
            for step in range(1, order.steps + 1):
                if self._gated and not self.go.acquire(timeout=20):
                    raise TimeoutError("the test never let it go on")
                if self.error:
                    raise self.error
                on_step(step, order.steps)
                self.steps.append(step)
        finally:
            self.left.set()
        seed = order.seed if order.seed >= 0 else 99
        return PaintedPicture(
            content=b"picture", format=order.format, width=order.width, height=order.height, seed=seed
        )


@asynccontextmanager
async def served(engine, *, api_key=None, keep_alive_s=KEEP_ALIVE_S, **options) -> AsyncIterator[aiohttp.ClientSession]:
    """The app over real HTTP, run as the wiring runs it; `options` are those of the queue."""
    jobs = PaintQueue(engine, concurrency=1, clock=SystemClock(), **options)
    app = build_app(jobs, api_key=api_key, keep_alive_s=keep_alive_s)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        await runner.cleanup()


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


async def health(client: aiohttp.ClientSession) -> dict:
    async with client.get("/healthz") as answer:
        return await answer.json()


async def events(answer: aiohttp.ClientResponse) -> list[tuple[str, dict]]:
    blocks = (await answer.read()).split(b"\n\n")
    return [parsed(block) for block in blocks if block and not block.startswith(b":")]


def parsed(block: bytes) -> tuple[str, dict]:
    name, data = block.decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
