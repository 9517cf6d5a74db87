"""A fake server of Darkroom's own contract (docs/inference-http.md), with a pace that a test controls."""

import base64
import json

from aiohttp import web

from tests.engines.engine import EngineFake, EngineFault, Painting, cut, picture

_STATUSES = {EngineFault.SERVER_ERROR: 500, EngineFault.UNAUTHORIZED: 401}
_MAX_BODY = 2_000_000


class Native(EngineFake):
    """Streams progress and previews; a key that it has painted is answered from memory."""

    def __init__(self) -> None:
        super().__init__()
        self.models = ["sdxl"]
        self._finished: dict[str, bytes] = {}

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/inference/images/generations", self._generate)
        app.router.add_get("/inference/capabilities", self._describe)
        return app

    def forget(self) -> None:
        super().forget()
        self._finished.clear()

    async def _describe(self, _request: web.Request) -> web.Response:
        models = [{"id": name, "samplers": ["Euler"]} for name in self.models]
        return web.json_response({"engine": "fake", "models": models})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        order, key = await request.json(), request.headers["Idempotency-Key"]
        self.orders.append(order)
        fault = self.fault()
        if refusal := self._refusal(order, fault):
            return refusal
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        painting = _Streamed(order, order["steps"], fault=fault, id=key, response=response)
        if key not in self._finished:
            self._finished[key] = await self._painted(painting)
        content = self._finished[key]
        if fault is EngineFault.CUT_BEFORE_ANSWER:
            cut(request)
        if fault is EngineFault.OVERSIZED:
            content = bytes(_MAX_BODY)
        data = json.dumps({"b64_json": base64.b64encode(content).decode(), "seed": order["seed"]})
        event = f"event: completed\ndata: {data}\n\n".encode()
        match fault:
            case EngineFault.CUT_IN_ANSWER:
                await response.write(event[: len(event) // 2])
                cut(request)
            case EngineFault.NOT_JSON:
                event = b"event: completed\ndata: <html>\n\n"
            case EngineFault.NO_PICTURE:
                event = b"event: completed\ndata: {}\n\n"
            case EngineFault.NOT_BASE64:
                event = b'event: completed\ndata: {"b64_json": "@@@@"}\n\n'
            case EngineFault.ERROR_INSIDE:
                event = b'event: error\ndata: {"code": "out_of_memory", "detail": "no memory"}\n\n'
        await response.write(event)
        return response

    def _refusal(self, order: dict, fault: EngineFault | None) -> web.Response | None:
        if fault is EngineFault.BUSY:
            return web.Response(status=503, headers={"Retry-After": "7"})
        if fault is EngineFault.REDIRECT:
            return web.Response(status=307, headers={"Location": f"{self.url}/elsewhere"})
        if fault in _STATUSES:
            return web.Response(status=_STATUSES[fault])
        for field, known in (("model", self.models), ("sampler", ["Euler"])):
            if order[field] not in known:
                return web.json_response({"code": "invalid", "detail": f"{field}: one of {known}"}, status=422)
        return None

    async def _painted(self, painting: Painting) -> bytes:
        if painting.fault is EngineFault.SILENT:
            await painting.wait()
        await self.paint(painting)
        order = painting.order
        size = (order["width"], order["height"]) if painting.fault is not EngineFault.WRONG_SIZE else (8, 8)
        return picture(size, order["seed"], order["prompt"], order["negative_prompt"], order["hires_fix"])

    async def on_step(self, painting: Painting) -> None:
        assert isinstance(painting, _Streamed)
        preview = base64.b64encode(picture((16, 16), painting.step, image_format="JPEG")).decode()
        await painting.send("preview", {"b64_json": preview})
        await painting.send("progress", {"step": painting.step, "steps": painting.steps})


class _Streamed(Painting):
    """A painting whose client reads events."""

    def __init__(self, order: dict, steps: int, *, fault: EngineFault | None, id: str, response) -> None:  # noqa: A002
        super().__init__(order, steps, fault=fault, id=id)
        self._response = response

    async def send(self, name: str, data: dict) -> None:
        await self._response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
