"""Fakes of the four programs with routes under `/sdapi/v1`.

SD.Next and sd-server answer as recorded; A1111 and Forge as their source says (docs/inference.md names the versions).
"""

import asyncio
import base64
import json

from aiohttp import web

from tests.engines.engine import EngineFault, picture
from tests.engines.sdapi_programs import SAMPLERS, SCHEDULERS, FakeProgram, described_model, error_answer
from tests.engines.sdapi_work import SdApiWork


class SdApi(SdApiWork):
    """One of the four programs, with its routes."""

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._authenticate])
        program = self.program
        app.router.add_post("/sdapi/v1/txt2img", self._txt2img)
        app.router.add_get("/sdapi/v1/samplers", self._samplers)
        app.router.add_get("/sdapi/v1/schedulers", self._schedulers)
        app.router.add_get("/sdapi/v1/sd-models", self._sd_models)
        app.router.add_get("/sdapi/v1/options", self._options)
        if program is FakeProgram.SDSERVER:
            app.router.add_get("/sdcpp/v1/capabilities", self._sdcpp_capabilities)
            return app
        app.router.add_get("/sdapi/v1/progress", self._progress)
        app.router.add_post("/sdapi/v1/interrupt", self._interrupt)
        app.router.add_post("/internal/progress", self._internal_progress)
        if program is FakeProgram.SDNEXT:
            app.router.add_get("/sdapi/v1/version", self._version)
            app.router.add_get("/sdapi/v1/checkpoint", self._checkpoint)
            app.router.add_post("/sdapi/v1/checkpoint", self._set_checkpoint)
        else:
            app.router.add_get("/internal/pending-tasks", self._pending_tasks)
            app.router.add_get("/sdapi/v1/cmd-flags", self._cmd_flags)
        if program is FakeProgram.FORGE:
            app.router.add_get("/sdapi/v1/sd-modules", self._modules)
        return app

    @web.middleware
    async def _authenticate(self, request: web.Request, handler) -> web.StreamResponse:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if self.credentials and (kind != "Basic" or base64.b64decode(given).decode() != self.credentials):
            return error_answer(self.program, 401, "Unauthorized" if kind == "Basic" else "Not authenticated")
        try:
            return await handler(request)
        except web.HTTPException as error:
            if self.program is FakeProgram.SDSERVER:
                return web.Response(status=error.status)  # no body
            return web.json_response({"detail": error.reason}, status=error.status)

    async def _samplers(self, _request: web.Request) -> web.Response:
        names = SAMPLERS[self.program]
        return web.json_response([{"name": name, "aliases": [name], "options": {}} for name in names])

    async def _schedulers(self, _request: web.Request) -> web.Response:
        if self.program is FakeProgram.SDNEXT:
            return error_answer(self.program, 500, "", "AttributeError")
        return web.json_response([{"name": name, "label": name.capitalize()} for name in SCHEDULERS])

    async def _sd_models(self, _request: web.Request) -> web.Response:
        return web.json_response([described_model(self.program, name) for name in self.models])

    async def _options(self, _request: web.Request) -> web.Response:
        chosen = described_model(self.program, self.loaded)["title"] if self.loaded else "model.safetensors"
        options: dict = {"sd_model_checkpoint": chosen}
        if self.program is not FakeProgram.SDNEXT:
            options["samples_format"] = "png"
        if self.program is FakeProgram.FORGE:
            options["forge_preset"] = "sd"
        return web.json_response(options)

    async def _checkpoint(self, _request: web.Request) -> web.Response:
        if not self._is_loaded():
            return web.json_response({"type": None, "class": None})
        title = described_model(self.program, self.loaded)["title"]
        found = {"type": "sd", "class": "StableDiffusionPipeline", "checkpoint": f"models/{title}", "title": title}
        return web.json_response({**found, "name": title, "filename": f"models/{title}", "hash": None})

    async def _set_checkpoint(self, request: web.Request) -> web.Response:
        before, wanted = self.loaded, request.query["sd_model_checkpoint"]
        self._choose(wanted)
        return web.json_response({"ok": self.loaded not in {"", before}})

    async def _version(self, _request: web.Request) -> web.Response:
        names = ("updated", "commit", "branch", "url", "kanvas", "ui")
        return web.json_response({"app": "sd.next", **dict.fromkeys(names, "unknown")})

    async def _cmd_flags(self, _request: web.Request) -> web.Response:
        return web.json_response({"api": True})

    async def _modules(self, _request: web.Request) -> web.Response:
        return web.json_response([])

    async def _sdcpp_capabilities(self, _request: web.Request) -> web.Response:
        limits: dict = {"max_batch_count": 8, "max_queue_size": 64}
        limits |= {"min_width": 64, "min_height": 64, "max_width": 4096, "max_height": 4096}
        return web.json_response({"current_mode": "img_gen", "limits": limits, "samplers": SAMPLERS["sdserver"][1:]})

    # ------------------------------------------------------------- progress and interrupt

    def _state(self) -> dict:
        current = self._current
        return {
            "skipped": False,
            "interrupted": self._is_interrupted,
            **({} if self.program is FakeProgram.SDNEXT else {"stopping_generation": False}),
            "job": self._phase if current else "",
            "job_count": 1 if current else 0,
            "job_timestamp": "20261129030606",
            "job_no": 0,
            "sampling_step": current.step if current else 0,
            "sampling_steps": current.steps if current else 0,
        }

    async def _progress(self, request: web.Request) -> web.Response:
        self.watched.set()
        current, image = self._current, None
        if current and current.step and request.query.get("skip_current_image") != "true":
            image = base64.b64encode(picture((64, 64), current.step, image_format="JPEG")).decode()
        return web.json_response(
            {
                **({"id": current.id if current else ""} if self.program is FakeProgram.SDNEXT else {}),
                "progress": round(current.step / current.steps, 2) if current else 0.0,
                "eta_relative": 0.0,
                "state": self._state(),
                "current_image": image,
                "textinfo": None,
            }
        )

    async def _internal_progress(self, request: web.Request) -> web.Response:
        asked, current = await request.json(), self._current
        name = asked["id_task"]
        is_ours = current is not None and current.id == name and self.program is not FakeProgram.SDNEXT
        preview = None
        if is_ours and asked.get("live_preview", True) and current.step > asked.get("id_live_preview", -1):
            encoded = base64.b64encode(picture((64, 64), current.step, image_format="JPEG")).decode()
            preview = f"data:image/jpeg;base64,{encoded}"
        answer = {
            "active": is_ours,
            "queued": name in self._pending,
            "completed": name in self._finished,
            "progress": current.step / current.steps if is_ours else None,
            "eta": None,
            "live_preview": preview,
            "id_live_preview": current.step if is_ours else -1,
            "textinfo": "Waiting...",
        }
        if self.program is FakeProgram.SDNEXT:
            more = {"paused": False, "debug": False, "batch_no": 0, "batch_count": 0, "job": self._phase}
            at = (current.step, current.steps) if current else (0, 0)
            answer |= {**more, "step": at[0], "steps": at[1], "progress": 0.0, "eta": 0.0}
        return web.json_response(answer)

    async def _pending_tasks(self, _request: web.Request) -> web.Response:
        return web.json_response({"size": len(self._pending), "tasks": self._pending})

    async def _interrupt(self, _request: web.Request) -> web.Response:
        self.interrupt()
        return web.Response(status=204) if self.program is FakeProgram.SDNEXT else web.json_response({})

    # ------------------------------------------------------------- painting

    async def _txt2img(self, request: web.Request) -> web.StreamResponse:
        try:
            order = json.loads(await request.read())
        except ValueError:
            if self.program is FakeProgram.SDSERVER:
                return error_answer(self.program, 500, "server_error")
            found: dict = {"type": "json_invalid", "loc": ["body", 1], "msg": "JSON decode error", "input": {}}
            found["ctx"] = {"error": "Expecting property name enclosed in double quotes"}
            return web.json_response({"detail": [found]}, status=422)
        self.orders.append(order)
        self.headers.append(dict(request.headers))
        fault = self.fault()
        if (refused := self._refusal(order, fault)) is not None:
            return refused
        if fault is EngineFault.SILENT:
            await asyncio.Event().wait()
        # these programs go on without their client
        work = asyncio.create_task(self.work(order, fault))
        painting = await asyncio.shield(work)
        return await self.send(request, fault, self._answer(order, painting, fault))

    def _refusal(self, order: dict, fault: EngineFault | None) -> web.Response | None:
        if fault is EngineFault.BUSY:
            return web.json_response({"detail": "busy"}, status=503, headers={"Retry-After": "7"})
        if fault is EngineFault.SERVER_ERROR:
            return error_answer(self.program, 500, "out of memory", "OutOfMemoryError")
        if fault is EngineFault.UNAUTHORIZED:
            return error_answer(self.program, 401, "Not authenticated")
        if fault is EngineFault.REDIRECT:
            return web.Response(status=307, headers={"Location": f"{self.url}/elsewhere"})
        sampler = order.get("sampler_name")
        if self.program is FakeProgram.SDSERVER:
            return None if order.get("prompt") else error_answer(self.program, 400, "prompt required")
        if not isinstance(order.get("width", 512), int):
            found = {"type": "int_parsing", "loc": ["body", "width"], "input": order["width"]}
            found["msg"] = "Input should be a valid integer, unable to parse string as an integer"
            return web.json_response({"detail": [found]}, status=422)
        if sampler is not None and not self._knows(sampler):
            return error_answer(self.program, 404 if self.program is FakeProgram.SDNEXT else 400, "Sampler not found")
        for script in order.get("alwayson_scripts", {}):
            return error_answer(self.program, 422, f"Always on script not found: {script}")
        return None

    def _knows(self, sampler: str) -> bool:
        names = [name for name in SAMPLERS[self.program] if name not in self.forgotten]
        if self.program is FakeProgram.SDNEXT:
            return sampler in names
        return sampler in names or sampler.rpartition(" ")[0] in names
