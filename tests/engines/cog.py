"""A fake of a cog container (cog 0.23.1): one prediction at a time, outputs as data URLs."""

import asyncio
import base64
import json
import secrets
from contextlib import suppress
from typing import Any

from aiohttp import web

from tests.engines.engine import EngineFake, EngineFault, Painting, cut, picture

# As `cog build` writes it: enums are schemas of their own.
SCHEMA: dict = {
    "title": "Input",
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "title": "Prompt", "x-order": 0},
        "negative_prompt": {"type": "string", "title": "Negative Prompt", "default": ""},
        "width": {"type": "integer", "minimum": 64, "maximum": 1024, "default": 512},
        "height": {"type": "integer", "minimum": 64, "maximum": 1024, "default": 512},
        "num_inference_steps": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        "guidance_scale": {"type": "number", "minimum": 0, "maximum": 20, "default": 7.5},
        "scheduler": {"allOf": [{"$ref": "#/components/schemas/scheduler"}], "default": "K_EULER"},
        "seed": {"type": "integer", "title": "Seed"},
        "num_outputs": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1},
        "output_format": {"allOf": [{"$ref": "#/components/schemas/output_format"}], "default": "png"},
    },
}
ENUMS = {
    "scheduler": {"type": "string", "enum": ["K_EULER", "K_EULER_ANCESTRAL", "DDIM", "DPMSolverMultistep"]},
    "output_format": {"type": "string", "enum": ["png", "jpg", "webp"]},
}
TYPES: dict = {"string": str, "integer": int, "number": (int, float), "boolean": bool}


class Cog(EngineFake):
    """A container; `health` is what it says of itself, `streaming` whether its model has @cog.streaming."""

    def __init__(self, *, streaming: bool = True) -> None:
        super().__init__()
        self.streaming = streaming
        self.health = "READY"
        self.schema: dict | None = SCHEMA
        self.enums = dict(ENUMS)
        self.refused_scale: float | None = None  # though the schema allows it
        self.output: object = None  # replaces the output of a prediction
        self.token: str | None = None  # of a proxy before the container
        self.fetched: list[str] = []
        self._predictions: dict[str, Painting] = {}
        self._logs: dict[str, str] = {}

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticate])
        app.router.add_get("/", self._root)
        app.router.add_get("/health-check", self._health_check)
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_post("/predictions", self._predict)
        app.router.add_put("/predictions/{id}", self._predict)
        app.router.add_post("/predictions/{id}/cancel", self._cancel)
        app.router.add_get("/files/{name}", self._file)
        return app

    @web.middleware
    async def _authenticate(self, request: web.Request, handler) -> web.StreamResponse:
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"detail": "no"}, status=401)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, headers={"Allow": "PUT"} if error.status == 405 else None)

    async def _root(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "cog_version": "0.23.1",
                "docs_url": "/docs",
                "healthcheck_url": "/health-check",
                "openapi_url": "/openapi.json",
                "predictions_cancel_url": "/predictions/{prediction_id}/cancel",
                "predictions_idempotent_url": "/predictions/{prediction_id}",
                "predictions_url": "/predictions",
                "shutdown_url": "/shutdown",
            }
        )

    async def _health_check(self, _request: web.Request) -> web.Response:
        setup = {"started_at": "2026-11-29T02:56:08Z", "completed_at": "2026-11-29T02:56:09Z", "status": "succeeded"}
        version = {
            "coglet": "0.23.1",
            "git_sha": "9b9f6339",
            "build_time": "",
            "python_sdk": "0.23.1",
            "python": "3.11",
        }
        status = "BUSY" if self.health == "READY" and self._predictions else self.health
        return web.json_response({"status": status, "setup": {**setup, "logs": ""}, "version": version})

    async def _openapi(self, _request: web.Request) -> web.Response:
        if self.schema is None:
            return web.json_response({"error": "OpenAPI schema not available"})
        post = {"x-cog-streaming": True} if self.streaming else {}
        return web.json_response(
            {
                "openapi": "3.0.2",
                "info": {"title": "Cog", "version": "0.1.0"},
                "paths": {"/predictions": {"post": post}},
                "components": {"schemas": {"Input": self.schema, **self.enums}},
            }
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        painting = self._predictions.get(request.match_info["id"])
        if painting:
            painting.stop()
        return web.json_response({}, status=200 if painting else 404)

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(request.path)
        return web.Response(body=picture((64, 64), request.path), content_type="image/png")

    # ------------------------------------------------------------- predictions

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("id") or f"pred_{secrets.token_hex(8)}"
        try:
            body = json.loads(await request.read())
        except ValueError:
            text = "Failed to parse the request body as JSON: key must be a string at line 1 column 2"
            return web.Response(status=400, text=text)
        if name in self._predictions:
            return self._snapshot(name)
        is_stream = "text/event-stream" in request.headers.get("Accept", "")
        if (refused := self._refusal(name, body, is_stream=is_stream)) is not None:
            return refused
        self.orders.append(body["input"])
        self.headers.append(dict(request.headers))
        fault = self.fault()
        if self.refused_scale is not None and body["input"].get("guidance_scale") == self.refused_scale:
            return invalid(["body", "input", "guidance_scale"], "no")
        if (failed := self._failure(fault)) is not None:
            return failed
        painting = self._predictions[name] = Painting(body["input"], self._steps(body["input"]), fault=fault, id=name)
        self._logs[name] = ""
        try:
            if fault is EngineFault.SILENT:
                await asyncio.Event().wait()
            return await (self._stream if is_stream else self._plain)(request, painting)
        finally:
            self._predictions.pop(name, None)

    def _snapshot(self, name: str) -> web.Response:
        painting = self._predictions[name]
        answer = {"id": name, "input": painting.order, "logs": self._logs[name], "metrics": {}, "status": "processing"}
        return web.json_response(answer, status=202)

    def _refusal(self, name: str, body: dict, *, is_stream: bool) -> web.Response | None:
        if body.get("id", name) != name:
            return invalid(["body", "id"], "prediction ID must match the ID supplied in the URL")
        if is_stream and not self.streaming:
            text = "This model does not support streaming responses. Add @cog.streaming to predict() to enable SSE."
            return web.json_response({"error": text}, status=406)
        if self.health != "READY":
            return web.json_response({"error": "not ready", "status": "failed"}, status=503)
        found = list(self._errors(body.get("input", {})))
        if found:
            return web.json_response({"detail": found}, status=422)
        if self._predictions:
            return web.json_response(
                {"error": "At capacity - all prediction slots busy", "status": "failed"}, status=409
            )
        return None

    def _failure(self, fault: EngineFault | None) -> web.Response | None:
        if fault is EngineFault.BUSY:
            text = "At capacity - all prediction slots busy"
            return web.json_response({"error": text, "status": "failed"}, status=409, headers={"Retry-After": "7"})
        if fault is EngineFault.SERVER_ERROR:
            return web.Response(status=500, text="Internal Server Error")
        if fault is EngineFault.UNAUTHORIZED:
            return web.json_response({"detail": "no"}, status=401)
        if fault is EngineFault.REDIRECT:
            return web.Response(status=307, headers={"Location": f"{self.url}/elsewhere"})
        return None

    def _errors(self, given: dict):
        """Without a schema nothing is validated; unknown inputs are ignored."""
        schema = self.schema or {"required": [], "properties": {}}
        for name in schema["required"]:
            if name not in given:
                yield problem(["body", "input", name], "Field required", "value_error.missing")
        for name, value in given.items():
            if (field := schema["properties"].get(name)) and (text := self._problem(value, field)):
                yield problem(["body", "input", name], text)

    def _problem(self, value: Any, field: dict) -> str | None:
        for reference in field.get("allOf", []):
            field = self.enums[reference["$ref"].rpartition("/")[2]]
        shown = json.dumps(value)
        if not isinstance(value, TYPES[field["type"]]):
            return f'{shown} is not of type "{field["type"]}"'
        if "enum" in field and value not in field["enum"]:
            return f"{shown} is not one of {json.dumps(field['enum'], separators=(',', ':'))}"
        if value < field.get("minimum", value):
            return f"{shown} is less than the minimum of {field['minimum']}"
        if value > field.get("maximum", value):
            return f"{shown} is greater than the maximum of {field['maximum']}"
        return None

    def _steps(self, given: dict) -> int:
        return given.get("num_inference_steps", 20)

    async def on_step(self, painting: Painting) -> None:
        self._logs[painting.id] += (
            f"{round(100 * painting.step / painting.steps)}%|#####| {painting.step}/{painting.steps}\n"
        )

    def _result(self, painting: Painting) -> dict:
        answer = {"id": painting.id, "logs": self._logs[painting.id], "metrics": {"predict_time": 0.2}}
        if painting.is_stopped:
            return {**answer, "status": "canceled"}
        if painting.fault is EngineFault.ERROR_INSIDE:
            return {**answer, "error": "Prediction failed: ValueError: NSFW content detected", "status": "failed"}
        return {**answer, "output": self._output(painting), "status": "succeeded"}

    def _output(self, painting: Painting) -> object:
        if self.output is not None:
            return self.output
        if painting.fault is EngineFault.NO_PICTURE:
            return None
        if painting.fault is EngineFault.NOT_BASE64:
            return "data:image/png;base64,%%%"
        given = painting.order
        size = (given.get("width", 512), given.get("height", 512))
        if painting.fault is EngineFault.WRONG_SIZE:
            size = (size[0] + 8, size[1])
        image_format = {"jpg": "JPEG", "webp": "WEBP"}.get(given.get("output_format", "png"), "PNG")
        about = (given.get("prompt"), given.get("negative_prompt"), given.get("seed"))
        content = picture(size, *about, image_format=image_format)
        url = f"data:image/{image_format.lower()};base64,{base64.b64encode(content).decode()}"
        return [url] * given.get("num_outputs", 1)

    async def _plain(self, request: web.Request, painting: Painting) -> web.StreamResponse:
        await self.paint(painting)
        return await self.send(request, painting.fault, self._result(painting))

    async def _stream(self, request: web.Request, painting: Painting) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        await send_event(response, "start", {"id": painting.id, "status": "processing"})
        painter = asyncio.create_task(self.paint(painting))
        sent = ""
        try:
            while not painter.done():
                await asyncio.wait([painter], timeout=0.01)
                if more := self._logs[painting.id].removeprefix(sent):
                    sent = self._logs[painting.id]
                    await send_event(response, "log", {"data": more, "source": "stderr"})
        finally:
            painter.cancel()
            with suppress(asyncio.CancelledError):
                await painter
        await self._finish(request, response, painting)
        return response

    async def _finish(self, request: web.Request, response: web.StreamResponse, painting: Painting) -> None:
        if painting.fault is EngineFault.CUT_BEFORE_ANSWER:
            cut(request)
        if painting.fault is EngineFault.NOT_JSON:
            await response.write(b"event: completed\ndata: {nope\n\n")
            return
        if painting.fault is EngineFault.OVERSIZED:
            await response.write(b'event: completed\ndata: {"output": "' + b"A" * 3_000_000)
            return
        data = f"event: completed\ndata: {json.dumps(self._result(painting))}\n\n".encode()
        if painting.fault is EngineFault.CUT_IN_ANSWER:
            await response.write(data[: len(data) // 2])
            cut(request)
        await response.write(data)


async def send_event(response: web.StreamResponse, name: str, data: dict) -> None:
    await response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())


def problem(place: list, text: str, kind: str = "value_error") -> dict:
    return {"loc": place, "msg": text, "type": kind}


def invalid(place: list, text: str) -> web.Response:
    return web.json_response({"detail": [problem(place, text)]}, status=422)
