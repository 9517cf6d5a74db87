"""Fakes of the four programs with routes under `/sdapi/v1`.

SD.Next and sd-server answer as recorded; A1111 and Forge as their source says (docs/inference.md names the versions).
"""

import asyncio
import base64
import json
import secrets
from enum import StrEnum

from aiohttp import web

from tests.engines.engine import EngineFake, EngineFault, Painting, picture

SAMPLERS = {
    "a1111": ["DPM++ 2M", "DPM++ SDE", "Euler a", "Euler", "Heun", "DPM2", "DDIM", "UniPC", "LCM"],
    "sdnext": ["Default", "UniPC", "DDIM", "Euler", "Euler a", "DPM++ 2M", "Heun", "LCM"],
    "sdserver": ["default", "euler", "euler_a", "heun", "dpm2", "dpm++2s_a", "dpm++2m", "dpm++2mv2", "lcm"],
}
SAMPLERS["forge"] = [*SAMPLERS["a1111"], "Flux Realistic"]
SCHEDULERS = ["automatic", "uniform", "karras", "exponential", "sgm_uniform"]


class FakeProgram(StrEnum):
    A1111 = "a1111"
    FORGE = "forge"
    SDNEXT = "sdnext"
    SDSERVER = "sdserver"


class SdApi(EngineFake):
    """One of the four programs."""

    def __init__(self, program: FakeProgram) -> None:
        super().__init__()
        self.program = program
        self.models = ["sd15-zero"] if program is FakeProgram.SDSERVER else ["tiny-sd", "dreamy-xl"]
        self.credentials: str | None = None  # user:password
        self.interrupts: list[dict | None] = []  # the order that each interrupt stopped; None: nothing ran
        self.loaded = self.models[0]  # empty: none (SD.Next)
        self.broken: list[str] = []  # models that it lists and cannot load
        self.forgotten: list[str] = []  # samplers that it lists, and no longer has
        self.watched = asyncio.Event()  # set when the progress is asked for
        self.info: object = None  # replaces the info of an answer
        self._current: Painting | None = None
        self._phase = ""
        self._is_interrupted = False  # until the next order begins
        self._pending: list[str] = []
        self._finished: list[str] = []

    # ------------------------------------------------------------- routes

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
            return self._error(401, "Unauthorized" if kind == "Basic" else "Not authenticated")
        try:
            return await handler(request)
        except web.HTTPException as error:
            if self.program is FakeProgram.SDSERVER:
                return web.Response(status=error.status)  # no body
            return web.json_response({"detail": error.reason}, status=error.status)

    def _error(self, status: int, detail: str, kind: str = "HTTPException") -> web.Response:
        if self.program is FakeProgram.SDSERVER:
            return web.json_response({"error": detail}, status=status)
        body: dict = {"error": kind, "detail": detail, "body": "", "errors": f"{status}: {detail}"}
        if self.program is FakeProgram.SDNEXT:
            body = {"error": kind, "code": status, "detail": detail, "body": "", "errors": f"{status}: {detail}"}
        return web.json_response(body, status=status)

    async def _samplers(self, _request: web.Request) -> web.Response:
        names = SAMPLERS[self.program]
        return web.json_response([{"name": name, "aliases": [name], "options": {}} for name in names])

    async def _schedulers(self, _request: web.Request) -> web.Response:
        if self.program is FakeProgram.SDNEXT:
            return self._error(500, "", "AttributeError")
        return web.json_response([{"name": name, "label": name.capitalize()} for name in SCHEDULERS])

    async def _sd_models(self, _request: web.Request) -> web.Response:
        return web.json_response([self._model(name) for name in self.models])

    def _model(self, name: str) -> dict:
        short = _hash(name)
        titles = {FakeProgram.SDNEXT: f"Diffusers/{name}", FakeProgram.SDSERVER: name}
        return {
            "title": titles.get(self.program, f"{name}.safetensors [{short}]"),
            "model_name": f"Diffusers/{name}" if self.program is FakeProgram.SDNEXT else name,
            "hash": short,
            "sha256": short + "0" * 54,
            "filename": f"{name}.safetensors",
            "config": None,
        }

    async def _options(self, _request: web.Request) -> web.Response:
        chosen = self._model(self.loaded)["title"] if self.loaded else "model.safetensors"
        options: dict = {"sd_model_checkpoint": chosen}
        if self.program is not FakeProgram.SDNEXT:
            options["samples_format"] = "png"
        if self.program is FakeProgram.FORGE:
            options["forge_preset"] = "sd"
        return web.json_response(options)

    async def _checkpoint(self, _request: web.Request) -> web.Response:
        if not self._is_loaded():
            return web.json_response({"type": None, "class": None})
        title = self._model(self.loaded)["title"]
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

    def interrupt(self) -> None:
        self.interrupts.append(self._current.order if self._current else None)
        self._is_interrupted = True
        if self._current:
            self._current.stop()

    async def _interrupt(self, _request: web.Request) -> web.Response:
        self.interrupt()
        return web.Response(status=204) if self.program is FakeProgram.SDNEXT else web.json_response({})

    # ------------------------------------------------------------- painting

    async def _txt2img(self, request: web.Request) -> web.StreamResponse:
        try:
            order = json.loads(await request.read())
        except ValueError:
            if self.program is FakeProgram.SDSERVER:
                return self._error(500, "server_error")
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

    async def work(self, order: dict, fault: EngineFault | None = None) -> Painting:
        """Wait for the lock, then paint; also called by tests, as the work of somebody else."""
        name = order.get("force_task_id") or secrets.token_hex(7)
        painting = Painting(order, steps=order.get("steps", 50), fault=fault, id=name)
        if self.program is not FakeProgram.SDNEXT:
            self._pending.append(name)
        async with self.lock:
            if name in self._pending:
                self._pending.remove(name)
            if self.program is FakeProgram.SDNEXT:
                await self._prepare(painting)
            self._current, self._phase, self._is_interrupted = painting, "Inference", False
            self._load(order)
            try:
                await self.paint(painting)
            finally:
                self._current, self._phase = None, ""
                self._finished = [*self._finished[-15:], name]
        return painting

    async def _prepare(self, painting: Painting) -> None:
        """SD.Next names each phase of one order by an id of its own, and each phase forgets an earlier interrupt."""
        for phase in ("API-TXT", "Styles"):
            self._phase, painting.id, self._current = phase, secrets.token_hex(8)[:15], painting
            await asyncio.sleep(0)
            painting.is_stopped = False
        painting.id = secrets.token_hex(8)[:15]

    def _is_loaded(self) -> bool:
        return bool(self.loaded and self.models)

    def _load(self, order: dict) -> None:
        if self.program is not FakeProgram.SDNEXT or self._is_loaded():
            self._choose(order.get("override_settings", {}).get("sd_model_checkpoint"))

    def begin_loading(self) -> None:
        """SD.Next loads the chosen model after its start, when its routes answer already."""
        self._current, self._phase = Painting({}, steps=1, fault=None, id="start"), "Load model"

    def _choose(self, wanted: str | None) -> None:
        for name in self.models if self.program is not FakeProgram.SDSERVER else []:
            if wanted in {name, self._model(name)["title"], self._model(name)["model_name"]}:
                self.loaded = "" if name in self.broken else name

    def _refusal(self, order: dict, fault: EngineFault | None) -> web.Response | None:
        if fault is EngineFault.BUSY:
            return web.json_response({"detail": "busy"}, status=503, headers={"Retry-After": "7"})
        if fault is EngineFault.SERVER_ERROR:
            return self._error(500, "out of memory", "OutOfMemoryError")
        if fault is EngineFault.UNAUTHORIZED:
            return self._error(401, "Not authenticated")
        if fault is EngineFault.REDIRECT:
            return web.Response(status=307, headers={"Location": f"{self.url}/elsewhere"})
        sampler = order.get("sampler_name")
        if self.program is FakeProgram.SDSERVER:
            return None if order.get("prompt") else self._error(400, "prompt required")
        if not isinstance(order.get("width", 512), int):
            found = {"type": "int_parsing", "loc": ["body", "width"], "input": order["width"]}
            found["msg"] = "Input should be a valid integer, unable to parse string as an integer"
            return web.json_response({"detail": [found]}, status=422)
        if sampler is not None and not self._knows(sampler):
            return self._error(404 if self.program is FakeProgram.SDNEXT else 400, "Sampler not found")
        for script in order.get("alwayson_scripts", {}):
            return self._error(422, f"Always on script not found: {script}")
        return None

    def _knows(self, sampler: str) -> bool:
        names = [name for name in SAMPLERS[self.program] if name not in self.forgotten]
        if self.program is FakeProgram.SDNEXT:
            return sampler in names
        return sampler in names or sampler.rpartition(" ")[0] in names

    def _answer(self, order: dict, painting: Painting, fault: EngineFault | None) -> dict:
        if fault is EngineFault.ERROR_INSIDE:
            return {"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"}
        size = (order.get("width", 512), order.get("height", 512))
        if order.get("enable_hr"):
            size = (order["hr_resize_x"], order["hr_resize_y"])
        images = (
            []
            if fault is EngineFault.NO_PICTURE or not self._can_paint(size)
            else [self._picture(order, size, painting)]
        )
        if fault is EngineFault.NOT_BASE64:
            images = ["%%%"]
        parameters = {**order, "override_settings": order.get("override_settings", {})}
        if self.program is FakeProgram.SDSERVER:
            return {"images": images, "parameters": order, "info": ""}
        return {"images": images, "parameters": parameters, "info": self._info(order) if self._is_loaded() else ""}

    def _can_paint(self, size: tuple[int, int]) -> bool:
        return self.program is not FakeProgram.SDNEXT or (self._is_loaded() and not any(side % 8 for side in size))

    def _picture(self, order: dict, size: tuple[int, int], painting: Painting) -> str:
        if self.program is FakeProgram.SDSERVER:
            size = (-(-size[0] // 64) * 64, -(-size[1] // 64) * 64)
        if painting.fault is EngineFault.WRONG_SIZE:
            size = (size[0] + 8, size[1])
        texts = (order.get("prompt"), order.get("negative_prompt"))
        about = (*texts, order.get("seed"), order.get("enable_hr"), self.loaded, painting.step)
        image_format = "JPEG" if self.program is FakeProgram.SDNEXT else "PNG"
        return base64.b64encode(picture(size, *about, image_format=image_format)).decode()

    def _info(self, order: dict) -> str:
        if self.info is not None:
            return self.info if isinstance(self.info, str) else json.dumps(self.info)
        seed = order.get("seed", -1)
        return json.dumps(
            {
                "prompt": order.get("prompt", ""),
                "negative_prompt": order.get("negative_prompt", ""),
                "seed": seed if seed >= 0 else secrets.randbelow(2**32),
                "sd_model_name": self.loaded,
                "sd_model_hash": _hash(self.loaded),
                "index_of_first_image": 0,
            }
        )


def _hash(name: str) -> str:
    return f"{sum(name.encode()) * 2_654_435_761 % 16**10:010x}"
