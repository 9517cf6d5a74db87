"""The queue of the fake ComfyUI: the runs of its prompts with their history and files."""

import asyncio
import hashlib
from collections import deque
from dataclasses import dataclass, field

from tests.engines.comfyui_nodes import OUTPUTS, signature, size_of, upstream
from tests.engines.comfyui_sockets import ComfyuiSockets, place
from tests.engines.engine import one_colour


class Interrupted(Exception):
    pass


class NodeFailed(Exception):
    def __init__(self, node, error):
        super().__init__(error)
        self.node, self.error = node, error


@dataclass
class PromptRun:
    """What has come of the prompt in work; its item is number, id, graph, extra data and outputs."""

    item: list
    messages: list[list] = field(default_factory=list)
    states: dict[str, dict] = field(default_factory=dict)
    results: dict[str, object] = field(default_factory=dict)  # of each node that was run or is cached
    ran: list[str] = field(default_factory=list)
    shown: dict[str, dict] = field(default_factory=dict)  # what the history keeps of each output

    @property
    def graph(self) -> dict:
        return self.item[2]

    def at(self, node) -> dict:
        """Where the run ended."""
        return {"node_id": node, "node_type": self.graph[node]["class_type"], "executed": self.ran}


class ComfyuiRuns:
    """The queue with its one worker. What goes wrong in a run is set by the test: see the fields below `faults`."""

    def __init__(self) -> None:
        self.graphs: dict[str, dict] = {}  # of each prompt that was queued
        self.painted: list[str] = []  # the ids of the prompts whose sampling was finished
        self.began: list[str] = []  # … whose sampling was begun
        self.interrupted: list[str] = []
        self.step_s = 0.0
        # faults
        self.holds = False  # sampling waits after its first step, until it is released or interrupted
        self.result: bytes | None = None  # the content of each picture
        self.fails: str | None = None  # the message of the exception in the sampler
        self.loses_outputs = False
        self.restarts = False  # in the middle of the next sampling
        self._forget()
        self._node: str | None = None
        self._released = asyncio.Event()
        self.held = asyncio.Event()
        self.sockets = ComfyuiSockets(self._queue_status)

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

    async def restart(self) -> None:
        raise NotImplementedError

    def release(self) -> None:
        self.holds = False
        self._released.set()

    def hold(self) -> None:
        self.holds = True
        self.held.clear()
        self._released.clear()

    def enqueue(self, item: list, *, front=False) -> None:
        self.graphs[item[1]] = item[2]
        (self.pending.appendleft if front else self.pending.append)(item)
        self._has_work.set()

    def _queue_status(self) -> dict:
        return {"exec_info": {"queue_remaining": len(self.pending) + (self.running is not None)}}

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while self.pending:
                self.running = self.pending.popleft()
                self._interrupting.clear()
                await self.sockets.send_status()
                await self._execute(self.running)
                item, self.running = self.running, None
                await self.sockets.send_status()
                await self.sockets.send("executing", item, node=None)

    # ------------------------------------------------------------------ one prompt

    async def _execute(self, item) -> None:
        _, prompt_id, graph, _, outputs = item
        run = PromptRun(item)
        order = [node for node in graph if any(node in upstream(graph, output) for output in outputs)]
        order.sort(key=lambda node: len(upstream(graph, node)))
        signatures = {node: signature(graph, node) for node in order}
        cached = [node for node in order if signatures[node] in self._cache]
        self._node = None
        await self._tell(run, "execution_start")
        await self._tell(run, "execution_cached", nodes=cached)
        run.results = {node: self._cache[signatures[node]] for node in cached}
        completed = await self._run_nodes(run, order, cached)
        self._cache = {signatures[node]: result for node, result in run.results.items()}
        status = "success" if completed else "error"
        outcome = {"status_str": status, "completed": completed, "messages": run.messages}
        about = {
            each: {"node_id": each, "display_node": each, "parent_node": None, "real_node_id": each}
            for each in run.shown
        }
        kept = {} if self.loses_outputs else run.shown
        self.history[prompt_id] = {"prompt": item, "outputs": kept, "status": outcome, "meta": about}

    async def _tell(self, run: PromptRun, kind, **data) -> None:
        """Send a message that the history keeps."""
        data |= {"timestamp": 1795919346680 + len(run.messages) * 100}
        run.messages.append([kind, {"prompt_id": run.item[1], **data}])
        await self.sockets.send(kind, run.item, **data)

    async def _run_nodes(self, run: PromptRun, order: list[str], cached: list[str]) -> bool:
        """Whether the run came to its end."""
        item = run.item
        try:
            for node in order:
                if node not in run.results:
                    run.results[node] = await self._run_node(run, node)
                    run.ran.append(node)
                if run.graph[node]["class_type"] in OUTPUTS and (node not in cached or "client_id" in item[3]):
                    run.shown[node] = {"images": run.results[node]}
                    await self.sockets.send("executed", item, node=node, display_node=node, output=run.shown[node])
                if node not in cached:
                    await self._send_states(run, node, "finished")
            await self._tell(run, "execution_success")
        except Interrupted:
            self.interrupted.append(item[1])
            await self._tell(run, "execution_interrupted", **run.at(self._node))
            return False
        except NodeFailed as failed:
            about = {"exception_message": failed.error, "exception_type": "RuntimeError", "traceback": ["(left out)"]}
            left = {"current_inputs": {}, "current_outputs": list(run.ran)}
            await self._tell(run, "execution_error", **run.at(failed.node), **about, **left)
            return False
        return True

    async def _send_states(self, run: PromptRun, node, state, value=0.0, of=1.0) -> None:
        value = of if state == "finished" else value
        run.states[node] = {"value": value, "max": of, "state": state, **place(run.item, node)}
        await self.sockets.send("progress_state", run.item, nodes=dict(run.states))

    # ------------------------------------------------------------------ one node

    async def _run_node(self, run: PromptRun, node) -> object:
        """Returns the colour of what the node makes, or the files that it saves."""
        self._node = node
        kind, inputs = run.graph[node]["class_type"], run.graph[node]["inputs"]
        await self._send_states(run, node, "running")
        await self.sockets.send("executing", run.item, node=node, display_node=node)
        if kind == "KSampler":
            await self._sample(run, node, inputs["steps"])
        if kind in OUTPUTS:
            return self._save(run.graph, node, kind, inputs)
        return hashlib.sha256(signature(run.graph, node).encode()).digest()

    async def _sample(self, run: PromptRun, node, steps: int) -> None:
        item = run.item
        self.began.append(item[1])
        if self.fails is not None:
            raise NodeFailed(node, self.fails)
        for step in range(1, steps + 1):
            if self._interrupting.is_set():
                raise Interrupted
            await asyncio.sleep(self.step_s)
            await self._send_states(run, node, "running", step, steps)
            if self.sockets.takes_metadata(item):  # with metadata before the step, without them after it
                await self.sockets.send_preview(item, node)
            await self.sockets.send("progress", item, value=step, max=steps, node=node)
            if not self.sockets.takes_metadata(item):
                await self.sockets.send_preview(item, node)
            if self.restarts and step == max(1, steps // 2):
                self.restarts = False
                self._restarting = asyncio.create_task(self.restart())
                await asyncio.Event().wait()
            if step == 1 and self.holds:
                await self._stand_still()
        self.painted.append(item[1])

    async def _stand_still(self) -> None:
        self.held.set()
        released, stopped = (asyncio.ensure_future(each.wait()) for each in (self._released, self._interrupting))
        try:
            await asyncio.wait([released, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            released.cancel()
            stopped.cancel()

    def _save(self, graph, node, kind, inputs) -> list[dict]:
        prefix = inputs.get("filename_prefix", "ComfyUI_temp_micsi")
        folder, _, name = prefix.rpartition("/")
        if ".." in folder:
            raise NodeFailed(node, "**** ERROR: Saving image outside the output folder is not allowed.")
        number = self._counters[prefix] = self._counters.get(prefix, 0) + 1
        file = {"filename": f"{name}_{number:05}_.png", "subfolder": folder}
        file["type"] = "temp" if kind == "PreviewImage" else "output"
        colour = hashlib.sha256(signature(graph, node).encode()).digest()
        self.files[tuple(file.values())] = self.result or one_colour(colour, size_of(graph, node))
        return [file]
