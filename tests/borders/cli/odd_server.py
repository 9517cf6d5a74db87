"""A server that answers oddly, to the command line."""

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from services.cli.main import main
from tests.inference_double import picture
from tests.servers.process import free_ports

IMAGE = {
    "id": "0193a1b2-0000-7000-8000-000000000001",
    "status": "queued",
    "imageUrl": None,
    "format": None,
    "error": None,
}
DONE = {**IMAGE, "status": "completed", "imageUrl": "/media/picture.png", "format": "png"}
FAILED = {**IMAGE, "status": "failed", "error": {"code": "deadline", "detail": "too late"}}
PAGE = "<html><body>Please sign in</body></html>"


class OddServer:
    """A server that answers as Darkroom does, except for the routes that a test replaces."""

    def __init__(self) -> None:
        self.url = ""
        self.orders: list[str | None] = []  # the keys
        self.routes: dict[str, Any] = {
            "ws": self.websocket,
            "order": self.order,
            "image": lambda request: web.json_response(DONE),
            "picture": lambda request: web.Response(body=picture(), content_type="image/png"),
        }

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound

    async def order(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(IMAGE, status=202)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/draw")
        if path == "/v1/images/generations":
            self.orders.append(request.headers.get("Idempotency-Key"))
            name = "order"
        else:
            name = {"/ws": "ws", "/media/picture.png": "picture"}.get(path, "image")
        answer = self.routes[name](request)
        return await answer if asyncio.iscoroutine(answer) else answer

    @asynccontextmanager
    async def running(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        (port,) = free_ports(1)
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()


async def generate(url: str, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["generate", "a lighthouse", "--url", url, *arguments])


def text(body: object, status: int = 200, content_type: str = "text/html", **headers: str):
    """A route that always answers with this body."""

    async def answer(request: web.Request) -> web.StreamResponse:
        content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body)
        data = content.encode() if isinstance(content, str) else content
        return web.Response(body=data, status=status, headers={"Content-Type": content_type, **headers})

    return answer


def problem(status: int, code: str, detail: str):
    return text({"status": status, "code": code, "detail": detail}, status, "application/problem+json")


async def cut(request: web.Request) -> web.StreamResponse:
    """Announces more than it sends."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"id":')
    assert request.transport
    request.transport.close()
    return response


async def dropped(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


JSON = "application/json"
