"""Fakes of servers with OpenAI's route for images.

sd-server answers as recorded; OpenAI, vLLM-Omni, SGLang and LocalAI as their specification or source says.
"""

import asyncio
import base64
import json
import secrets
from enum import StrEnum

from aiohttp import web

from tests.engines.engine import EngineFake, EngineFault, Painting, cut, picture


class FakeMaker(StrEnum):
    OPENAI = "openai"
    VLLM = "vllm"
    SGLANG = "sglang"
    LOCALAI = "localai"
    SDSERVER = "sdserver"
    OTHER = "other"


MODELS = {
    FakeMaker.OPENAI: ["gpt-image-1", "dall-e-3", "gpt-image-2"],
    FakeMaker.VLLM: ["Qwen/Qwen-Image"],
    FakeMaker.SGLANG: ["black-forest-labs/FLUX.1-dev"],
    FakeMaker.LOCALAI: ["dreamshaper", "stablediffusion"],
    FakeMaker.SDSERVER: ["sd-cpp-local"],
    FakeMaker.OTHER: ["a-model"],
}
OWNERS = {FakeMaker.OPENAI: "system", FakeMaker.VLLM: "vllm", FakeMaker.SGLANG: "sglang", FakeMaker.SDSERVER: "local"}
# Servers that stop when their client leaves.
_FOLLOWING = {FakeMaker.LOCALAI, FakeMaker.OTHER}


class OpenAi(EngineFake):
    """One server."""

    def __init__(self, maker: FakeMaker) -> None:
        super().__init__()
        self.maker = maker
        self.token: str | None = None
        self.models = MODELS[maker]
        self.has_route = True  # for images
        self.forgotten: list[str] = []  # models that it lists, and does not have
        self.answers_url: str | None = None  # instead of b64_json
        self.failure: tuple[int, object] | None = None  # status and body of the next answers
        self.partial_images: int | None = None  # more or fewer than asked for
        self.fetched: list[str] = []

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticate])
        app.router.add_get("/v1/models", self._models)
        if self.has_route:
            app.router.add_post("/v1/images/generations", self._generations)
        app.router.add_get("/generated-images/{name}", self._file)
        if self.maker is FakeMaker.LOCALAI:
            app.router.add_get("/readyz", self._ready)
        if self.maker is FakeMaker.SDSERVER:
            app.router.add_get("/sdcpp/v1/capabilities", self._sdcpp_capabilities)
        return app

    @web.middleware
    async def _authenticate(self, request: web.Request, handler) -> web.StreamResponse:
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.error(401, "Incorrect API key provided", code="invalid_api_key")
        try:
            return await handler(request)
        except web.HTTPException as error:
            if self.maker in {FakeMaker.VLLM, FakeMaker.SGLANG}:
                return web.json_response({"detail": error.reason}, status=error.status)
            if self.maker is FakeMaker.SDSERVER:
                return web.Response(status=error.status)
            return self.error(error.status, f"Invalid URL ({request.method} {request.path})")

    def error(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> web.Response:
        if self.maker is FakeMaker.VLLM:
            return web.json_response({"detail": message}, status=status)
        if self.maker is FakeMaker.SDSERVER:
            return web.json_response({"error": message}, status=status)
        if self.maker is FakeMaker.LOCALAI:
            return web.json_response({"error": {"code": status, "message": message, "type": ""}}, status=status)
        kind = "invalid_request_error" if status < 500 else "server_error"
        body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        return web.json_response(body, status=status)

    async def _models(self, _request: web.Request) -> web.Response:
        owner = OWNERS.get(self.maker)
        data = [{"id": name, "object": "model", **({"owned_by": owner} if owner else {})} for name in self.models]
        if self.maker is FakeMaker.SDSERVER:
            return web.json_response({"data": data})
        return web.json_response({"object": "list", "data": data})

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def _sdcpp_capabilities(self, _request: web.Request) -> web.Response:
        limits = {"min_width": 64, "min_height": 64, "max_width": 4096, "max_height": 4096}
        samplers = ["euler", "euler_a", "heun", "dpm2", "dpm++2s_a", "dpm++2m", "lcm"]
        return web.json_response({"limits": limits, "samplers": samplers})

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(request.path)
        return web.Response(body=picture((64, 64), request.path), content_type="image/png")

    async def _generations(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            order = json.loads(raw)
        except ValueError as error:
            return self._unreadable(raw, error)
        self.orders.append(order)
        self.headers.append(dict(request.headers))
        fault = self.fault()
        if (refused := self._refusal(order, fault)) is not None:
            return refused
        if fault is EngineFault.SILENT:
            await asyncio.Event().wait()
        painting = Painting(order, steps=self._steps(order), fault=fault)
        if self.maker in _FOLLOWING:
            await self._locked(painting)
        else:
            await asyncio.shield(asyncio.create_task(self._locked(painting)))
        content = self._picture(painting)
        if order.get("stream") and self.maker is FakeMaker.OPENAI:
            return await self._stream(request, painting, content)
        return await self.send(request, fault, self._answer(painting, content))

    async def _locked(self, painting: Painting) -> None:
        async with self.lock:
            await self.paint(painting)

    def _unreadable(self, raw: bytes, error: ValueError) -> web.Response:
        if self.maker is FakeMaker.SDSERVER:
            if not raw:
                return self.error(400, "empty body")
            return web.json_response({"error": "server_error", "message": f"[json] {error}"}, status=500)
        return self.error(400, "We could not parse the JSON body of your request.")

    def _steps(self, order: dict) -> int:
        if self.maker is FakeMaker.SDSERVER:
            return self.extra(order).get("sample_params", {}).get("sample_steps", 20)
        return order.get("num_inference_steps") or order.get("step") or 4

    def extra(self, order: dict) -> dict:
        """What sd-server finds in the prompt."""
        head, found, rest = order["prompt"].partition("<sd_cpp_extra_args>")
        inner, ended, _ = rest.partition("</sd_cpp_extra_args>")
        return json.loads(inner) if found and ended and head is not None else {}

    def _refusal(self, order: dict, fault: EngineFault | None) -> web.Response | None:
        if self.failure is not None:
            return web.json_response(self.failure[1], status=self.failure[0])
        if fault is EngineFault.BUSY:
            text = "Rate limit reached"
            body = {"error": {"message": text, "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
            return web.json_response(body, status=429, headers={"Retry-After": "7"})
        if fault is EngineFault.SERVER_ERROR:
            return self.error(500, "The server had an error while processing your request")
        if fault is EngineFault.UNAUTHORIZED:
            return self.error(401, "Incorrect API key provided", code="invalid_api_key")
        if fault is EngineFault.REDIRECT:
            return web.Response(status=307, headers={"Location": f"{self.url}/elsewhere"})
        if not order.get("prompt"):
            return self.error(400, "prompt required", param="prompt")
        if self.maker is FakeMaker.SDSERVER:
            return self._refusal_of_sdserver(order)
        return self._refusal_of_fields(order)

    def _refusal_of_sdserver(self, order: dict) -> web.Response | None:
        if order.get("output_format", "png") not in {"png", "jpeg", "webp"}:
            return self.error(400, "invalid output_format, must be one of [png, jpeg, webp]")
        if not isinstance(order.get("n", 1), int):
            text = "[json.exception.type_error.302] type must be number, but is string"
            return web.json_response({"error": "server_error", "message": text}, status=500)
        return None

    def _refusal_of_fields(self, order: dict) -> web.Response | None:
        if order.get("model") not in self.models or order["model"] in self.forgotten:
            text = f"The model '{order.get('model')}' does not exist"
            return self.error(404, text, param="model", code="model_not_found")
        if self.maker is FakeMaker.OPENAI:
            unknown = order.keys() & {"seed", "negative_prompt", "steps", "num_inference_steps"}
            if order["model"].startswith("gpt-image"):
                unknown |= order.keys() & {"response_format"}
            for name in sorted(unknown):
                return self.error(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
        if self.maker is FakeMaker.VLLM and order.get("response_format") == "url":
            return web.json_response({"detail": "response_format must be b64_json"}, status=422)
        return None

    def _picture(self, painting: Painting) -> bytes:
        order = painting.order
        width, _, height = order.get("size", "512x512").partition("x")
        size = (int(width), int(height))
        if self.maker is FakeMaker.SDSERVER:
            size = (-(-size[0] // 64) * 64, -(-size[1] // 64) * 64)
        if painting.fault is EngineFault.WRONG_SIZE:
            size = (size[0] + 8, size[1])
        image_format = order.get("output_format", "png").upper()
        return picture(size, *self._painted_from(order), image_format=image_format)

    def _painted_from(self, order: dict) -> tuple:
        """What the pixels depend on; OpenAI has no seed, and a number in the prompt names an order for the tests."""
        if self.maker is FakeMaker.SDSERVER:
            extra = self.extra(order)
            return order["prompt"].partition("<sd_cpp")[0], extra.get("seed", 42), extra.get("negative_prompt")
        if self.maker is FakeMaker.OPENAI:
            return (order["prompt"].rpartition("#")[0], secrets.token_hex(4))
        return order["prompt"], order.get("seed"), order.get("negative_prompt")

    def _answer(self, painting: Painting, content: bytes) -> dict:
        if painting.fault is EngineFault.ERROR_INSIDE:
            return {"error": {"message": "blocked", "type": "x", "param": None, "code": "content_policy_violation"}}
        item = {"b64_json": base64.b64encode(content).decode()}
        if self.answers_url:
            item = {"url": self.answers_url}
        if painting.fault is EngineFault.NOT_BASE64:
            item = {"b64_json": "%%%"}
        data = [] if painting.fault is EngineFault.NO_PICTURE else [item]
        answer = {"created": 1795920972, "data": data}
        if self.maker is FakeMaker.LOCALAI:
            return {**answer, "id": "0b2a"}
        return {**answer, "output_format": painting.order.get("output_format", "png")}

    async def _stream(self, request: web.Request, painting: Painting, content: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        count = self.partial_images if self.partial_images is not None else painting.order.get("partial_images", 0)
        for index in range(count):
            partial = picture((64, 64), index)
            await response.write(event("image_generation.partial_image", partial, {"partial_image_index": index}))
        if painting.fault is EngineFault.CUT_BEFORE_ANSWER:
            cut(request)
        if painting.fault is EngineFault.ERROR_INSIDE:
            body = {"error": {"message": "blocked", "type": "x", "param": None, "code": "moderation_blocked"}}
            await response.write(f"event: error\ndata: {json.dumps({'type': 'error', **body})}\n\n".encode())
            return response
        data = event("image_generation.completed", content, {"usage": {"total_tokens": 1}})
        if painting.fault is EngineFault.NOT_JSON:
            data = b"event: image_generation.completed\ndata: {nope\n\n"
        if painting.fault is EngineFault.OVERSIZED:
            data = event("image_generation.completed", bytes(3_000_000), {})
        if painting.fault is EngineFault.NO_PICTURE:
            data = b"data: [DONE]\n\n"
        if painting.fault is EngineFault.NOT_BASE64:
            data = b'event: image_generation.completed\ndata: {"b64_json": "%%%"}\n\n'
        if painting.fault is EngineFault.CUT_IN_ANSWER:
            await response.write(data[: len(data) // 2])
            cut(request)
        await response.write(data)
        return response


def event(kind: str, content: bytes, more: dict) -> bytes:
    about = {"created_at": 1620000000, "size": "1024x1024", "quality": "high", "background": "opaque"}
    data = {"type": kind, "b64_json": base64.b64encode(content).decode(), "output_format": "png", **about, **more}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
