"""An inference service over real HTTP that keeps the contract or breaks it as a test demands."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO

from aiohttp import web
from PIL import Image

Answer = Callable[[web.Request, dict], Awaitable[web.StreamResponse]]


def picture(image_format="PNG", size=(64, 64)) -> bytes:
    out = BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(out, image_format)
    return out.getvalue()


async def paint(_request: web.Request, order: dict) -> web.Response:
    """The normal answer: an image of the requested size."""
    return web.Response(body=picture(size=(order["width"], order["height"])), content_type="image/png")


def status(code: int, text: str = "no", headers: dict[str, str] | None = None) -> Answer:
    async def answer(_request: web.Request, _order: dict) -> web.Response:
        return web.Response(status=code, text=text, headers=headers)

    return answer


def body(content: bytes, content_type: str = "image/png") -> Answer:
    async def answer(_request: web.Request, _order: dict) -> web.Response:
        return web.Response(body=content, content_type=content_type)

    return answer


def events(*events: tuple[str, dict]) -> Answer:
    """A stream of server-sent events, then its end."""

    async def answer(request: web.Request, _order: dict) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for name, data in events:
            await response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        return response

    return answer


def preview(content: bytes, step: int = 1) -> tuple[str, dict]:
    return "preview", {"b64_json": base64.b64encode(content).decode(), "format": "png", "step": step}


def completed(content: bytes) -> tuple[str, dict]:
    return "completed", {"b64_json": base64.b64encode(content).decode(), "format": "png", "seed": 7}


class Inference:
    """Answers with the answers given to `will`, in turn; paints when none is left."""

    def __init__(self) -> None:
        self.url = ""
        self.orders: list[dict] = []
        self.keys: list[str] = []
        self.held = asyncio.Event()  # set when a request waits in `hold`
        self.dropped = asyncio.Event()  # set when the client of a held request has disconnected
        self.released = asyncio.Event()
        self.capabilities: dict | None = None
        self._answers: list[Answer] = []
        self._always: Answer = paint

    def will(self, *answers: Answer) -> None:
        self._answers.extend(answers)

    def forget(self) -> None:
        """Drop the answers that no request has taken."""
        self._answers.clear()

    def always(self, answer: Answer) -> None:
        self._always = answer

    async def hold(self, request: web.Request, order: dict) -> web.StreamResponse:
        """Wait until released, or until the client disconnects."""
        self.held.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.dropped.set()
            raise
        return await paint(request, order)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        order = await request.json()
        self.orders.append(order)
        self.keys.append(request.headers["Idempotency-Key"])
        answer = self._answers.pop(0) if self._answers else self._always
        return await answer(request, order)

    async def describe(self, _request: web.Request) -> web.Response:
        if self.capabilities is None:
            return web.Response(status=404)
        return web.json_response(self.capabilities)


@asynccontextmanager
async def inference_double(port: int = 0) -> AsyncIterator[Inference]:
    double = Inference()
    app = web.Application()
    app.router.add_post("/inference/images/generations", double.generate)
    app.router.add_get("/inference/capabilities", double.describe)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        double.url = "http://{}:{}".format(*runner.addresses[0][:2])
        yield double
    finally:
        await runner.cleanup()
