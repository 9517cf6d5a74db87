"""A fake of ComfyUI 0.12.1: its routes, messages and errors, with made-up pictures and with faults.

Here are its process, faults and routes; `comfyui_checks.py`, `comfyui_runs.py` and `comfyui_sockets.py` have the rest.
`tests/engines/test_comfyui.py` replays the exchanges recorded on the real server, so that the fake cannot drift.
"""

import asyncio
import hashlib
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import WSCloseCode, web

from tests.engines.comfyui_checks import errors_by_node, node_error, refusal, unknown_node
from tests.engines.comfyui_nodes import CLASSES, OUTPUTS
from tests.engines.comfyui_runs import ComfyuiRuns
from tests.engines.engine import EngineFault, one_colour

PromptHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PARTS = ("ws", "prompt", "queue", "history", "view", "interrupt", "object_info", "system_stats")  # of the paths


class Comfyui(ComfyuiRuns):
    """One server. What it does wrong is set by the test: see the fields below `faults`, here and of its runs."""

    def __init__(self) -> None:
        super().__init__()
        self.url = ""
        self.port = 0
        self.checkpoints = ["sd_xl_base_1.0.safetensors", "flux1-dev-fp8.safetensors"]
        self.classes = {name: {"input": {"required": dict(inputs)}} for name, inputs in CLASSES.items()}
        self.deleted: list[str] = []
        self.requests: list[str] = []
        # faults
        self.silent: set[str] = set()  # first parts of paths that are never answered
        self.answers: dict[str, web.Response | None] = {}  # first part of a path ─▶ the answer to it
        self.bad_output = False  # 200 with node_errors for the output of each prompt
        self.ignores_prompt_id = False
        self.slow_prompt: PromptHandler | None = None  # instead of `_prompt`
        self._numbers = itertools.count()
        self._task: asyncio.Task | None = None
        self._runner: web.AppRunner | None = None

    # ------------------------------------------------------------------ the process

    async def start(self) -> None:
        app = web.Application(middlewares=[self._faults])
        app.add_routes(
            [
                web.get("/ws", self._ws), web.get("/system_stats", self._stats), web.get("/prompt", self._remaining),
                web.get("/object_info/{name}", self._object_info), web.post("/prompt", self._prompt),
                web.get("/queue", self._queue), web.post("/queue", self._change_queue), web.get("/view", self._view),
                web.get("/history/{id}", self._history), web.post("/history", self._change_history),
                web.post("/interrupt", self._interrupt),
            ]
        )  # fmt: skip
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End as a killed process does: the connections break, the queue and the history are gone."""
        assert self._task is not None
        assert self._runner is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.sockets.close(WSCloseCode.GOING_AWAY)
        await self._runner.cleanup()
        self._forget()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def fail(self, fault: EngineFault) -> None:
        """Let orders meet this fault, until `recover`. Connections are cut by a proxy."""
        match fault:
            case EngineFault.BUSY:
                self.answers["prompt"] = web.Response(status=503, headers={"Retry-After": "7"})
            case EngineFault.SERVER_ERROR:
                self.answers["prompt"] = web.Response(status=500)
            case EngineFault.REDIRECT:
                self.answers["prompt"] = web.Response(status=307, headers={"Location": f"{self.url}/elsewhere"})
            case EngineFault.UNAUTHORIZED:
                self.answers |= dict.fromkeys(PARTS, web.Response(status=401))
            case EngineFault.NOT_JSON:
                self.answers["history"] = web.Response(body=b"<html>Bad gateway</html>")
            case EngineFault.SILENT:
                self.hold()
            case EngineFault.WRONG_SIZE:
                self.result = one_colour(bytes(3), (8, 8))
            case EngineFault.OVERSIZED:
                self.result = bytes(2_000_000)
            case EngineFault.NOT_BASE64:
                self.result = b"@@@@"
            case EngineFault.NO_PICTURE:
                self.loses_outputs = True
            case EngineFault.ERROR_INSIDE:
                self.fails = "out of memory"
            case EngineFault.RESTART:
                self.restarts = True
            case _:
                raise ValueError(fault)

    def recover(self) -> None:
        self.answers.clear()
        self.silent.clear()
        self.result = self.fails = None
        self.loses_outputs = self.restarts = self.bad_output = False
        self.release()

    @web.middleware
    async def _faults(self, request: web.Request, handler) -> web.StreamResponse:
        part = request.path.split("/")[1]
        self.requests.append(f"{request.method} /{part}")
        if part in self.silent:
            await asyncio.Event().wait()
        if part in self.answers:
            made = self.answers[part]
            if made is not None:
                return web.Response(status=made.status, body=made.body, headers=made.headers)
        if self.slow_prompt is not None and request.path == "/prompt":
            return await self.slow_prompt(request)
        return await handler(request)

    # ------------------------------------------------------------------ routes

    async def _stats(self, _request) -> web.Response:
        return web.json_response({"system": {"os": "linux", "comfyui_version": "0.12.1"}, "devices": []})

    async def _object_info(self, request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.classes:
            return web.json_response({})
        described = json.loads(json.dumps(self.classes[name]))
        if name == "CheckpointLoaderSimple":
            described["input"]["required"]["ckpt_name"][0] = self.checkpoints
        return web.json_response({name: described | {"name": name, "output_node": name in OUTPUTS}})

    async def _remaining(self, _request) -> web.Response:
        return web.json_response(self._queue_status())

    async def _prompt(self, request) -> web.Response:
        body = json.loads(await request.read())  # broken JSON: 500, as the real one
        if "prompt" not in body:
            return refusal("no_prompt", "No prompt provided", "No prompt provided")
        graph = body["prompt"]
        if refused := unknown_node(graph, self.classes):
            return refused
        outputs = [node for node, each in graph.items() if each["class_type"] in OUTPUTS]
        if not outputs:
            return refusal("prompt_no_outputs", "Prompt has no outputs", "")
        errors = errors_by_node(graph, outputs, self.classes, self.checkpoints)
        failed = {output for each in errors.values() for output in each["dependent_outputs"]}
        if failed >= set(outputs):
            return refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation", "", errors)
        if self.bad_output:
            errors = {outputs[0]: node_error(graph, outputs[0], outputs, ("custom_validation_failed", "bad", "images"))}
        number = next(self._numbers) * (-1 if body.get("front") else 1)
        prompt_id = hashlib.md5(str(number).encode()).hexdigest()
        if "prompt_id" in body and not self.ignores_prompt_id:
            prompt_id = body["prompt_id"]
        extra = {"client_id": body["client_id"]} if "client_id" in body else {}
        good = [each for each in outputs if each not in failed]
        self.enqueue([number, prompt_id, graph, extra | {"create_time": 1795919346673}, good], front=body.get("front"))
        await self.sockets.send_status()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": errors})

    async def _queue(self, _request) -> web.Response:
        running = [self.running] if self.running is not None else []
        return web.json_response({"queue_running": running, "queue_pending": list(self.pending)})

    async def _change_queue(self, request) -> web.Response:
        body = await request.json()
        gone = {item[1] for item in self.pending} if body.get("clear") else set(body.get("delete", ()))
        self.deleted += [item[1] for item in self.pending if item[1] in gone]
        self.pending = deque(item for item in self.pending if item[1] not in gone)
        await self.sockets.send_status()
        return web.Response()

    async def _history(self, request) -> web.Response:
        entry = self.history.get(request.match_info["id"])
        return web.json_response({request.match_info["id"]: entry} if entry else {})

    async def _change_history(self, request) -> web.Response:
        for prompt_id in (await request.json()).get("delete", ()):
            self.history.pop(prompt_id, None)
        return web.Response()

    async def _interrupt(self, request) -> web.Response:
        prompt_id = (await request.json()).get("prompt_id") if request.can_read_body else None
        if self.running is not None and prompt_id in {None, self.running[1]}:
            self._interrupting.set()
        return web.Response()

    async def _view(self, request) -> web.Response:
        key = tuple(request.query.get(name, "") for name in ("filename", "subfolder", "type"))
        if ".." in key[0]:
            return web.Response(status=400)
        if key not in self.files:
            return web.Response(status=404)
        disposition = {"Content-Disposition": f'filename="{key[0]}"'}
        return web.Response(body=self.files[key], content_type="image/png", headers=disposition)

    async def _ws(self, request) -> web.WebSocketResponse:
        socket, sid = await self.sockets.open(request)
        if self.running is not None and self.running[3].get("client_id") == sid and self._node is not None:
            await socket.send_json({"type": "executing", "data": {"node": self._node}})
        await self.sockets.listen(socket, sid)
        return socket


@asynccontextmanager
async def comfyui() -> AsyncIterator[Comfyui]:
    fake = Comfyui()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
