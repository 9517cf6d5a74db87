"""A fake of ComfyUI 0.12.1: its routes, messages and errors, with made-up pictures and with faults.

`tests/engines/test_comfyui.py` replays the exchanges recorded on the real server, so that the fake cannot drift.
"""

import asyncio
import hashlib
import itertools
import json
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from io import BytesIO

from aiohttp import WSCloseCode, WSMsgType, web
from PIL import Image

from tests.engines.comfyui_nodes import CLASSES, node_error, signature, size_of, upstream
from tests.engines.engine import EngineFault

PromptHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OUTPUTS = {"SaveImage", "PreviewImage"}
PARTS = ("ws", "prompt", "queue", "history", "view", "interrupt", "object_info", "system_stats")  # of the paths


class Interrupted(Exception):
    pass


class NodeFailed(Exception):
    def __init__(self, node, error):
        super().__init__(error)
        self.node, self.error = node, error


def picture(colour: bytes, size: tuple[int, int], image_format="PNG") -> bytes:
    out = BytesIO()
    Image.new("RGB", size, tuple(colour[:3])).save(out, image_format)
    return out.getvalue()


class Comfyui:
    """One server. What it does wrong is set by the test: see the fields below `faults`."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.checkpoints = ["sd_xl_base_1.0.safetensors", "flux1-dev-fp8.safetensors"]
        self.classes = {name: {"input": {"required": dict(inputs)}} for name, inputs in CLASSES.items()}
        self.graphs: dict[str, dict] = {}  # of each prompt that was queued
        self.painted: list[str] = []  # the ids of the prompts whose sampling was finished
        self.began: list[str] = []  # … whose sampling was begun
        self.interrupted: list[str] = []
        self.deleted: list[str] = []
        self.requests: list[str] = []
        self.step_s = 0.0
        # faults
        self.holds = False  # sampling waits after its first step, until it is released or interrupted
        self.silent: set[str] = set()  # first parts of paths that are never answered
        self.answers: dict[str, web.Response | None] = {}  # first part of a path ─▶ the answer to it
        self.result: bytes | None = None  # the content of each picture
        self.fails: str | None = None  # the message of the exception in the sampler
        self.bad_output = False  # 200 with node_errors for the output of each prompt
        self.loses_outputs = False
        self.ignores_prompt_id = False
        self.slow_prompt: PromptHandler | None = None  # instead of `_prompt`
        self.restarts = False  # in the middle of the next sampling
        self._forget()
        self._node: str | None = None
        self._released = asyncio.Event()
        self.held = asyncio.Event()
        self._numbers = itertools.count()
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._flags: set[str] = set()
        self._task: asyncio.Task | None = None
        self._runner: web.AppRunner | None = None

    def _forget(self) -> None:
        """What a restart loses."""
        self.pending: deque[list] = deque()
        self.running: list | None = None
        self.history: dict[str, dict] = {}
        self.files: dict[tuple[str, str, str], bytes] = {}
        self._counters: dict[str, int] = {}
        self._cache: dict[str, object] = {}
        self._interrupting = asyncio.Event()
        self._has_work = asyncio.Event()

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
        for socket in list(self._sockets.values()):
            await socket.close(code=WSCloseCode.GOING_AWAY)
        await self._runner.cleanup()
        self._forget()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def release(self) -> None:
        self.holds = False
        self._released.set()

    def hold(self) -> None:
        self.holds = True
        self.held.clear()
        self._released.clear()

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
                self.result = picture(bytes(3), (8, 8))
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
        return web.json_response(self._exec_info())

    def _exec_info(self) -> dict:
        return {"exec_info": {"queue_remaining": len(self.pending) + (self.running is not None)}}

    async def _prompt(self, request) -> web.Response:
        body = json.loads(await request.read())  # broken JSON: 500, as the real one
        if "prompt" not in body:
            return _refusal("no_prompt", "No prompt provided", "No prompt provided")
        graph = body["prompt"]
        if refusal := self._unknown_node(graph):
            return refusal
        outputs = [node for node, each in graph.items() if each["class_type"] in OUTPUTS]
        if not outputs:
            return _refusal("prompt_no_outputs", "Prompt has no outputs", "")
        errors = self._node_errors(graph, outputs)
        failed = {output for each in errors.values() for output in each["dependent_outputs"]}
        if failed >= set(outputs):
            return _refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation", "", errors)
        if self.bad_output:
            errors = {outputs[0]: node_error(graph, outputs[0], outputs, ("custom_validation_failed", "bad", "images"))}
        number = next(self._numbers) * (-1 if body.get("front") else 1)
        prompt_id = hashlib.md5(str(number).encode()).hexdigest()
        if "prompt_id" in body and not self.ignores_prompt_id:
            prompt_id = body["prompt_id"]
        extra = {"client_id": body["client_id"]} if "client_id" in body else {}
        good = [each for each in outputs if each not in failed]
        self.enqueue([number, prompt_id, graph, extra | {"create_time": 1795919346673}, good], front=body.get("front"))
        await self._send_status()
        return web.json_response({"prompt_id": prompt_id, "number": number, "node_errors": errors})

    def enqueue(self, item: list, *, front=False) -> None:
        self.graphs[item[1]] = item[2]
        (self.pending.appendleft if front else self.pending.append)(item)
        self._has_work.set()

    def _unknown_node(self, graph) -> web.Response | None:
        for node, each in graph.items():
            name = each.get("class_type")
            if name in self.classes:
                continue
            text = (
                f"Node '{name}' not found. The custom node may not be installed."
                if name
                else f"Node 'ID #{node}' has no class_type. The workflow may be corrupted or a custom node is missing."
            )
            info = {"node_id": node, "class_type": name, "node_title": name}
            return _refusal("missing_node_type", text, f"Node ID '#{node}'", info=info)
        return None

    def _node_errors(self, graph, outputs) -> dict:
        found = {}
        for node, each in graph.items():
            needed_by = [output for output in outputs if node in upstream(graph, output)]
            if not needed_by:
                continue  # the real server looks at nothing else
            for name, spec in self.classes[each["class_type"]]["input"]["required"].items():
                if error := self._input_error(name, spec, each["inputs"]):
                    found[node] = node_error(graph, node, needed_by, error)
        return found

    def _input_error(self, name, spec, inputs) -> tuple | None:
        if name not in inputs:
            return "required_input_missing", "Required input is missing", name
        value, kind = inputs[name], spec[0]
        about = spec[1] if len(spec) > 1 else {}
        if isinstance(kind, list):
            options = self.checkpoints if name == "ckpt_name" else kind
            if value not in options:
                config = [options, about]
                return "value_not_in_list", "Value not in list", f"{name}: {value!r} not in {options}", config, value
        elif kind == "INT" and not isinstance(value, list):
            if value < about["min"]:
                return "value_smaller_than_min", f"Value {value} smaller than min of {about['min']}", name, spec, value
            if value > about["max"]:
                return "value_bigger_than_max", f"Value {value} bigger than max of {about['max']}", name, spec, value
        return None

    async def _queue(self, _request) -> web.Response:
        running = [self.running] if self.running is not None else []
        return web.json_response({"queue_running": running, "queue_pending": list(self.pending)})

    async def _change_queue(self, request) -> web.Response:
        body = await request.json()
        gone = {item[1] for item in self.pending} if body.get("clear") else set(body.get("delete", ()))
        self.deleted += [item[1] for item in self.pending if item[1] in gone]
        self.pending = deque(item for item in self.pending if item[1] not in gone)
        await self._send_status()
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

    # ------------------------------------------------------------------ the websocket

    async def _ws(self, request) -> web.WebSocketResponse:
        socket, sid = web.WebSocketResponse(), request.query["clientId"]
        await socket.prepare(request)
        self._sockets[sid] = socket
        await socket.send_json({"type": "status", "data": {"status": self._exec_info(), "sid": sid}})
        if self.running is not None and self.running[3].get("client_id") == sid and self._node is not None:
            await socket.send_json({"type": "executing", "data": {"node": self._node}})
        async for message in socket:
            if message.type is WSMsgType.TEXT and json.loads(message.data)["type"] == "feature_flags":
                self._flags.add(sid)
                flags = {"supports_preview_metadata": True, "max_upload_size": 104857600, "extension": {}}
                await socket.send_json({"type": "feature_flags", "data": flags})
        self._sockets.pop(sid, None)
        return socket

    async def flood(self, content: bytes) -> None:
        for socket in list(self._sockets.values()):
            with suppress(ConnectionError):
                await socket.send_bytes(content)
        await asyncio.sleep(0)

    async def drop_sockets(self) -> None:
        for socket in list(self._sockets.values()):
            await socket.close()

    async def _send(self, kind, item, **data) -> None:
        sid = item[3].get("client_id")
        if sid in self._sockets:
            with suppress(ConnectionError):
                await self._sockets[sid].send_json({"type": kind, "data": data | {"prompt_id": item[1]}})

    async def _send_status(self) -> None:
        for socket in list(self._sockets.values()):
            with suppress(ConnectionError):
                await socket.send_json({"type": "status", "data": {"status": self._exec_info()}})

    async def _send_preview(self, item, node) -> None:
        sid = item[3].get("client_id")
        if sid not in self._sockets:
            return
        content = picture(b"\x80\x40\x20", (512, 512), "JPEG")
        if sid in self._flags:
            about = json.dumps({**_place(item, node), "image_type": "image/jpeg"}).encode()
            frame = struct.pack(">II", 4, len(about)) + about + content
        else:
            frame = struct.pack(">II", 1, 1) + content
        with suppress(ConnectionError):
            await self._sockets[sid].send_bytes(frame)

    # ------------------------------------------------------------------ the executor

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while self.pending:
                self.running = self.pending.popleft()
                self._interrupting.clear()
                await self._send_status()
                await self._execute(self.running)
                item, self.running = self.running, None
                await self._send_status()
                await self._send("executing", item, node=None)

    async def _execute(self, item) -> None:
        _, prompt_id, graph, _, outputs = item
        messages: list[list] = []

        async def tell(kind, **data):
            data |= {"timestamp": 1795919346680 + len(messages) * 100}
            messages.append([kind, {"prompt_id": prompt_id, **data}])
            await self._send(kind, item, **data)

        order = [node for node in graph if any(node in upstream(graph, output) for output in outputs)]
        order.sort(key=lambda node: len(upstream(graph, node)))
        signatures = {node: signature(graph, node) for node in order}
        cached = [node for node in order if signatures[node] in self._cache]
        self._states: dict[str, dict] = {}
        self._node = None
        await tell("execution_start")
        await tell("execution_cached", nodes=cached)
        done: dict[str, dict] = {}
        results: dict[str, object] = {node: self._cache[signatures[node]] for node in cached}
        status, completed = "success", True
        ran: list[str] = []
        try:
            for node in order:
                if node not in results:
                    results[node] = await self._run_node(item, node, results)
                    ran.append(node)
                if graph[node]["class_type"] in OUTPUTS and (node not in cached or "client_id" in item[3]):
                    done[node] = {"images": results[node]}
                    await self._send("executed", item, node=node, display_node=node, output=done[node])
                if node not in cached:
                    await self._send_states(item, node, "finished")
            await tell("execution_success")
        except Interrupted:
            status, completed = "error", False
            self.interrupted.append(prompt_id)
            where = {"node_id": self._node, "node_type": graph[self._node]["class_type"], "executed": ran}
            await tell("execution_interrupted", **where)
        except NodeFailed as failed:
            status, completed = "error", False
            where = {"node_id": failed.node, "node_type": graph[failed.node]["class_type"], "executed": ran}
            about = {"exception_message": failed.error, "exception_type": "RuntimeError", "traceback": ["(left out)"]}
            await tell("execution_error", **where, **about, current_inputs={}, current_outputs=list(ran))
        self._cache = {signatures[node]: result for node, result in results.items()}
        outcome = {"status_str": status, "completed": completed, "messages": messages}
        about = {
            each: {"node_id": each, "display_node": each, "parent_node": None, "real_node_id": each} for each in done
        }
        kept = {} if self.loses_outputs else done
        self.history[prompt_id] = {"prompt": item, "outputs": kept, "status": outcome, "meta": about}

    async def _send_states(self, item, node, state, value=0.0, of=1.0) -> None:
        value = of if state == "finished" else value
        self._states[node] = {"value": value, "max": of, "state": state, **_place(item, node)}
        await self._send("progress_state", item, nodes=dict(self._states))

    async def _run_node(self, item, node, results) -> object:
        """Returns the colour of what the node makes, or the files that it saves."""
        self._node = node
        kind, inputs = item[2][node]["class_type"], item[2][node]["inputs"]
        await self._send_states(item, node, "running")
        await self._send("executing", item, node=node, display_node=node)
        if kind == "KSampler":
            await self._sample(item, node, inputs["steps"])
        if kind in OUTPUTS:
            return self._save(item, node, kind, inputs)
        return hashlib.sha256(signature(item[2], node).encode()).digest()

    async def _sample(self, item, node, steps: int) -> None:
        self.began.append(item[1])
        if self.fails is not None:
            raise NodeFailed(node, self.fails)
        for step in range(1, steps + 1):
            if self._interrupting.is_set():
                raise Interrupted
            await asyncio.sleep(self.step_s)
            await self._send_states(item, node, "running", step, steps)
            if item[3].get("client_id") in self._flags:  # with metadata before the step, without them after it
                await self._send_preview(item, node)
            await self._send("progress", item, value=step, max=steps, node=node)
            if item[3].get("client_id") not in self._flags:
                await self._send_preview(item, node)
            if self.restarts and step == max(1, steps // 2):
                self.restarts = False
                self._restarting = asyncio.create_task(self.restart())
                await asyncio.Event().wait()
            if step == 1 and self.holds:
                self.held.set()
                released, stopped = (
                    asyncio.ensure_future(each.wait()) for each in (self._released, self._interrupting)
                )
                try:
                    await asyncio.wait([released, stopped], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    released.cancel()
                    stopped.cancel()
        self.painted.append(item[1])

    def _save(self, item, node, kind, inputs) -> list[dict]:
        prefix = inputs.get("filename_prefix", "ComfyUI_temp_micsi")
        folder, _, name = prefix.rpartition("/")
        if ".." in folder:
            raise NodeFailed(node, "**** ERROR: Saving image outside the output folder is not allowed.")
        number = self._counters[prefix] = self._counters.get(prefix, 0) + 1
        file = {"filename": f"{name}_{number:05}_.png", "subfolder": folder}
        file["type"] = "temp" if kind == "PreviewImage" else "output"
        colour = hashlib.sha256(signature(item[2], node).encode()).digest()
        self.files[tuple(file.values())] = self.result or picture(colour, size_of(item[2], node))
        return [file]


def _place(item, node) -> dict:
    return {
        "node_id": node,
        "prompt_id": item[1],
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }


def _refusal(kind, message, details, node_errors=None, info=None) -> web.Response:
    error = {"type": kind, "message": message, "details": details, "extra_info": info or {}}
    return web.json_response({"error": error, "node_errors": node_errors or {}}, status=400)


@asynccontextmanager
async def comfyui() -> AsyncIterator[Comfyui]:
    fake = Comfyui()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
