"""What the fakes of all engines share: orders, a pace that a test controls, faults, a restart on the same port."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum, auto
from io import BytesIO
from typing import TypeVar

from aiohttp import web
from PIL import Image

MB = 1_000_000
E = TypeVar("E", bound="EngineFake")


class EngineFault(StrEnum):
    """What goes wrong with the answer to one order; each fake also has faults that only its dialect can express."""

    BUSY = auto()
    SERVER_ERROR = auto()
    UNAUTHORIZED = auto()
    REDIRECT = auto()
    SILENT = auto()  # accepts the order, and never answers
    CUT_BEFORE_ANSWER = auto()  # painted, then the connection closes
    CUT_IN_ANSWER = auto()
    WRONG_SIZE = auto()
    OVERSIZED = auto()
    NOT_JSON = auto()
    NO_PICTURE = auto()  # a 200 without a picture
    NOT_BASE64 = auto()
    ERROR_INSIDE = auto()  # a 200 that holds an error
    RESTART = auto()  # in the middle of the work


@dataclass(eq=False)
class Painting:
    """One order in work."""

    order: dict
    steps: int
    step: int = 0
    is_stopped: bool = False
    fault: EngineFault | None = None
    id: str = ""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        self.is_stopped = True
        self._moved.set()

    def resume(self) -> None:
        self._moved.set()

    async def wait(self) -> None:
        await self._moved.wait()
        self._moved.clear()


def picture(size: tuple[int, int], *about: object, image_format: str = "PNG") -> bytes:
    """A picture whose pixels depend on `about`, as a painted one depends on its seed and prompt."""
    digest = hashlib.sha256(repr(about).encode()).digest()
    out = BytesIO()
    Image.frombytes("RGB", (2, 2), digest[:12]).resize(size, Image.Resampling.BILINEAR).save(out, image_format)
    return out.getvalue()


def one_colour(colour: bytes, size: tuple[int, int], image_format: str = "PNG") -> bytes:
    """A picture of the colour whose red, green and blue are the first three bytes."""
    out = BytesIO()
    Image.new("RGB", size, tuple(colour[:3])).save(out, image_format)
    return out.getvalue()


class EngineFake:
    """A server with one painting at a time, as most programs have it; further orders wait for the lock."""

    def __init__(self) -> None:
        self.url = ""
        self.orders: list[dict] = []  # the bodies of the requests to paint
        self.requests: list[str] = []  # "GET /path" of every request
        self.queries: list[str] = []
        self.ordered = asyncio.Event()  # set when a request to paint has arrived
        self.headers: list[dict[str, str]] = []  # of the requests to paint
        self.painted: list[dict] = []  # orders that were painted to their end
        self.stopped: list[dict] = []  # orders that were stopped while they were painted
        self.step_s = 0.0
        self.held = asyncio.Event()  # set while a painting stands at a held step
        self.idle = asyncio.Event()  # set while nothing is painted, once something was
        self.running: list[Painting] = []
        self.lock = asyncio.Lock()
        self._held_step: int | None = None
        self._faults: list[EngineFault] = []
        self._always: EngineFault | None = None
        self._runner: web.AppRunner | None = None

    def will(self, *faults: EngineFault) -> None:
        """The next orders meet these faults, in turn."""
        self._faults.extend(faults)

    def always(self, fault: EngineFault | None) -> None:
        self._always = fault

    def hold(self, step: int = 1) -> None:
        """Let paintings stand still after this step, until `release`."""
        self._held_step = step
        self.held.clear()

    def release(self) -> None:
        self._held_step = None
        for painting in self.running:
            painting.resume()

    def fault(self) -> EngineFault | None:
        """The fault of an order that has arrived."""
        self.ordered.set()
        return self._faults.pop(0) if self._faults else self._always

    async def paint(self, painting: Painting) -> None:
        """Do the steps; returns early if the painting was stopped, and raises if the server restarts meanwhile."""
        self.running.append(painting)
        self.idle.clear()
        try:
            for step in range(1, painting.steps + 1):
                if painting.is_stopped:
                    break
                painting.step = step
                await self.on_step(painting)
                if painting.fault is EngineFault.RESTART and step == max(1, painting.steps // 2):
                    self.restart_later()
                    await painting.wait()
                if self._held_step == step:
                    self.held.set()
                    await painting.wait()
                await asyncio.sleep(self.step_s)
            (self.stopped if painting.is_stopped else self.painted).append(painting.order)
        except asyncio.CancelledError:
            self.stopped.append(painting.order)
            raise
        finally:
            self.running.remove(painting)
            if not self.running:
                self.idle.set()

    async def on_step(self, painting: Painting) -> None:
        """For a fake that reports its steps while it paints."""

    def forget(self) -> None:
        """What a restart loses."""
        self.lock = asyncio.Lock()

    async def send(self, request: web.Request, fault: EngineFault | None, answer: object) -> web.StreamResponse:
        """Answer with this JSON, or as the fault says."""
        content = json.dumps(answer).encode()
        if fault is EngineFault.OVERSIZED:
            content = b'{"images": ["' + b"A" * 3 * MB + b'"]}'
        if fault is EngineFault.NOT_JSON:
            content = b"<html>Bad gateway</html>"
        if fault is EngineFault.CUT_BEFORE_ANSWER:
            cut(request)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(content)
        await response.prepare(request)
        if fault is EngineFault.CUT_IN_ANSWER:
            await response.write(content[: len(content) // 2])
            cut(request)
        with contextlib.suppress(ConnectionError):
            await response.write(content)
        return response

    def application(self) -> web.Application:
        raise NotImplementedError

    async def start(self) -> None:
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        app = self.application()
        app.middlewares.append(self._note)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        for painting in self.running:
            painting.stop()

    async def restart(self) -> None:
        await self.stop()
        self.forget()
        await self.start()

    def restart_later(self) -> None:
        self._restarting = asyncio.create_task(self.restart())

    @web.middleware
    async def _note(self, request: web.Request, handler) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        self.queries.append(request.query_string)
        return await handler(request)


def cut(request: web.Request) -> None:
    """Close the connection in the middle of an answer."""
    assert request.transport
    request.transport.abort()
    raise asyncio.CancelledError


@asynccontextmanager
async def running(engine: E) -> AsyncIterator[E]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
