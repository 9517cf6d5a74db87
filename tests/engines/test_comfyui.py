"""The fake of ComfyUI answers, over HTTP and the websocket, as version 0.12.1 was recorded to answer."""

import asyncio
import json
from itertools import groupby

import aiohttp
import pytest

from tests.engines.comfyui import comfyui
from tests.engines.recorded import exchanges, shape
from tests.waiting import until

UNUSED = ("/api/", "/system_stats")  # no adapter uses them, or only one field of them
SKIPPED = {"status", "progress_state", "feature_flags"}  # their number depends on the pace; their shapes are compared


def recorded(name: str, *, start: str = "", stop: str = "") -> list[dict]:
    """The entries of a transcript between two of its notes."""
    entries = exchanges(f"comfyui-0.12.1/{name}.json")
    notes = {each["note"]: index for index, each in enumerate(entries) if "note" in each}
    return entries[notes.get(start, 0) : notes.get(stop, len(entries))]


class Listener:
    """A websocket of the fake, and what came over it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.seen: list[dict] = []
        self.socket = socket
        self.news = asyncio.Condition()
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for message in self.socket:
            async with self.news:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self.seen.append({"text": json.loads(message.data)})
                else:
                    event, word = int.from_bytes(message.data[:4]), int.from_bytes(message.data[4:8])
                    metadata = json.loads(message.data[8 : 8 + word]) if event == 4 else None
                    self.seen.append({"binary": {"event": event, "metadata": metadata}})
                self.news.notify_all()

    async def wait_for_ends(self, count: int) -> None:
        async with asyncio.timeout(5), self.news:
            await self.news.wait_for(lambda: sum(map(is_end, self.seen)) >= count)


def is_end(entry: dict) -> bool:
    text = entry.get("text", {})
    return text.get("type") == "executing" and text["data"]["node"] is None


def story(entries: list[dict], *, without_steps: bool) -> list:
    """What a client saw, in its order; the nodes before the sampler may come in any order."""
    found: list[tuple] = []
    for each in entries:
        if "binary" in each:
            about = each["binary"].get("metadata")
            found.append(("preview", each["binary"]["event"], about and about["node_id"]))
        elif (kind := each["text"]["type"]) not in SKIPPED:
            data = each["text"]["data"]
            found.append((kind, data.get("node", data.get("node_id")), data.get("value"), data.get("max")))
    if without_steps:  # of a server that had some of the nodes in its cache
        found = [each for each in found if each[0] not in {"preview", "progress", "executing"}]
    return [sorted(group, key=str) for _, group in groupby(found, key=lambda each: each[0])]


def shapes(entries: list[dict]) -> dict[str, list]:
    """The different shapes of each kind of message; the nodes of a state are one."""
    found: dict[str, list] = {}
    for each in entries:
        if "text" not in each:
            continue
        data = dict(each["text"]["data"])
        if each["text"]["type"] == "progress_state":
            data["nodes"] = next(iter(data["nodes"].values()))
        if each["text"]["type"] == "execution_error":  # tensors, which nobody reads
            data |= {"current_inputs": {}, "current_outputs": []}
        data.pop("extension", None)
        if each["text"]["type"] == "execution_cached":
            data["nodes"] = []  # which of them depends on what ran before
        known = found.setdefault(each["text"]["type"], [])
        if shape(data) not in known:
            known.append(shape(data))
    return found


def answer_of(entry: dict) -> object:
    """The parts of an answer that must be the same; ids, names of files and times are not."""
    answer = entry["answer"]
    if not isinstance(answer, dict):
        return None
    if "error" in answer:
        return answer["error"], {node: each["errors"][0]["type"] for node, each in answer["node_errors"].items()}
    for each in answer.values():
        if isinstance(each, dict) and "status" in each:  # an entry of the history
            kinds = [kind for kind, _ in each["status"]["messages"]]
            without_graph = {**each, "prompt": [type(part).__name__ for part in each["prompt"]], "outputs": {}}
            without_graph["status"] = each["status"] | {"messages": kinds}
            return shape(without_graph), kinds, list(each["outputs"])
    # the server lists a heap, which is not in the order of execution
    ids = {key: sorted(item[1] for item in answer[key]) for key in ("queue_running", "queue_pending") if key in answer}
    errors = {node: each["dependent_outputs"] for node, each in (answer.get("node_errors") or {}).items()}
    return ids or shape({**answer, "node_errors": {}}), errors


TRANSCRIPTS = {
    "plain": recorded("plain"),
    "sd": recorded("sd"),
    "bad": recorded("bad"),
    "cancel": recorded("cancel"),
    "temporary files": recorded("saves", stop="SaveImageWebsocket"),
    "nobody listens": recorded("gone", start="posted with a client_id that no websocket has"),
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_the_fake_answers_as_it_was_recorded(name):
    """Each recorded request is sent to the fake, after what was received before it has been received from the fake."""
    entries = TRANSCRIPTS[name]
    sockets: dict[str, Listener] = {}
    ids: dict[str, str] = {}  # chosen by the server: recorded ─▶ by the fake
    async with comfyui() as fake, aiohttp.ClientSession() as http:
        fake.checkpoints = ["random-small.safetensors"] if name in {"sd", "cancel"} else []
        if name == "cancel":
            fake.hold()
        for index, entry in enumerate(entries):
            before = entries[:index]
            if "sid" in entry.get("text", {}).get("data", {}) and entry["ws"] not in sockets:
                socket = await http.ws_connect(f"{fake.url}/ws?clientId={entry['text']['data']['sid']}")
                if index and "ws_send" in before[-1]:
                    await socket.send_json(before[-1]["ws_send"])
                sockets[entry["ws"]] = Listener(socket)
            if "http" not in entry or any(part in entry["http"] for part in UNUSED):
                continue
            for key, listener in sockets.items():
                await listener.wait_for_ends(sum(is_end(each) for each in before if each.get("ws") == key))
            if name == "cancel" and entry["http"] == "GET /queue":
                await asyncio.wait_for(fake.held.wait(), 5)
                fake.held.clear()
            if name == "nobody listens" and "GET /history" in entry["http"]:
                await until(lambda: bool(fake.history))
            await compare(http, fake.url, entry, ids)
        for key, listener in sockets.items():
            was = [each for each in entries if each.get("ws") == key and ("text" in each or "binary" in each)]
            await listener.wait_for_ends(sum(map(is_end, was)))
            await listener.socket.close()
            await listener.task
            if name != "cancel" or key != "otherc":
                without_steps = name == "cancel"
                assert story(listener.seen, without_steps=without_steps) == story(was, without_steps=without_steps)
            for kind, known in shapes(listener.seen).items():
                assert [each for each in known if each not in shapes(was)[kind]] == [], kind


async def compare(http, url: str, entry: dict, ids: dict[str, str]) -> None:
    method, path = entry["http"].split(" ", 1)
    for was, now in ids.items():
        path = path.replace(was, now)
    body = entry["body"]
    sent = {"data": body} if isinstance(body, str) else {} if body is None else {"json": body}
    async with http.request(method, url + path, **sent) as response:
        content = await response.read()
        assert response.status == entry["status"], (entry["http"], content)
        if not isinstance(entry["answer"], dict):
            assert (
                response.content_type == entry["headers"].get("Content-Type", response.content_type).partition(";")[0]
            )
            return
        answer = json.loads(content)
    if path == "/prompt" and response.status == 200 and "prompt_id" in answer and "prompt_id" not in body:
        ids[entry["answer"]["prompt_id"]] = answer["prompt_id"]
    assert answer_of({"answer": answer}) == answer_of(entry), entry["http"]
