"""Requests to a ComfyUI server, one method for each.

Source: ComfyUI 0.12.1, server.py; every answer is bounded in size and time.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from common.domain.errors import BadImage, Denied, Rejected, Transient
from common.domain.texts import clean_text
from common.runtime.bounded_read import TooLarge, read_body
from common.runtime.clock import Clock
from services.generator.inference.answers import CONNECT_S, connection_errors, response_error
from services.generator.inference.comfyui.nodes import NodeClass, parse_node_class
from services.generator.inference.comfyui.workflow import Graph
from services.generator.inference.service_client import bearer

ANSWER_S: Final = 15.0  # the server answers late while it loads a model: its threads share one interpreter lock
_MAX_BYTES: Final = 16_000_000  # the queue holds the graph of each job, and a history entry the error with its tensors
_IN_LOOP: Final = 64_000  # bytes that are parsed in the event loop; more in a thread


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submitted prompt; `problem` is set if the server refuses it, wholly or in part."""

    prompt_id: str
    is_queued: bool = True
    problem: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class QueueState:
    is_running: bool
    is_pending: bool

    @property
    def has_it(self) -> bool:
        return self.is_running or self.is_pending


class ComfyuiServer:
    """The HTTP interface of one server; its errors are those of the port."""

    def __init__(self, http: aiohttp.ClientSession, *, url: URL, api_key: str | None, clock: Clock) -> None:
        self._http = http
        self._url = url
        self._headers = bearer(api_key)
        self._headers["Accept-Encoding"] = "identity"  # a small body must not unpack into a large one
        self._clock = clock

    async def version(self) -> str | None:
        found = await self._json("GET", "system_stats")
        system = found.get("system") if isinstance(found, dict) else None
        version = system.get("comfyui_version") if isinstance(system, dict) else None
        return clean_text(version, 40) if isinstance(version, str) else None

    async def node_class(self, name: str) -> NodeClass | None:
        return parse_node_class(name, await self._json("GET", f"object_info/{quote(name, safe='')}"))

    async def submit(self, graph: Graph, prompt_id: str) -> Submitted:
        """Put the graph into the queue. The id is that of the client too, so that the next worker gets its messages."""
        body = {"prompt": graph, "client_id": prompt_id, "prompt_id": prompt_id}
        status, found = await self._ask("POST", "prompt", body, also=frozenset({400}))
        answer = found if isinstance(found, dict) else {}
        if status != 200:
            return Submitted(prompt_id, is_queued=False, problem=answer | {"error": answer.get("error", "no reason")})
        if not isinstance(answer.get("prompt_id"), str):
            raise Transient("the inference service did not confirm the prompt")
        return Submitted(answer["prompt_id"], problem=answer if answer.get("node_errors") else None)

    async def queue_state(self, prompt_id: str) -> QueueState:
        found = await self._json("GET", "queue")
        lists = found if isinstance(found, dict) else {}
        return QueueState(
            is_running=_names(lists.get("queue_running"), prompt_id),
            is_pending=_names(lists.get("queue_pending"), prompt_id),
        )

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The entry of a run that has ended; None if it has not, or was never begun."""
        found = await self._json("GET", f"history/{prompt_id}")
        entry = found.get(prompt_id) if isinstance(found, dict) else None
        return entry if isinstance(entry, dict) else None

    async def remove_from_queue(self, prompt_id: str) -> None:
        await self._ask("POST", "queue", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """Stop this run; the server ignores the id of any other. Never sent without an id: that stops whatever runs."""
        await self._ask("POST", "interrupt", {"prompt_id": prompt_id})

    async def view(self, file: dict[str, str], *, max_bytes: int) -> bytes:
        """The bytes of an output. Raises BadImage if it is too large, or gone."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S)
        with connection_errors():
            async with self._http.get(
                (self._url / "view").with_query(file), headers=self._headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status in {400, 404}:
                    raise BadImage(f"the inference service has lost its picture ({response.status})")
                if response.status != 200:
                    raise await response_error(response, self._clock)
                return await read_body(response, max_bytes=max_bytes)

    def websocket_url(self, client_id: str) -> URL:
        return (self._url / "ws").with_query(clientId=client_id)

    @property
    def headers(self) -> dict[str, str]:
        return dict(self._headers)

    async def _json(self, method: str, path: str) -> Any:
        _, found = await self._ask(method, path)
        return found

    async def _ask(
        self, method: str, path: str, body: object = None, *, also: frozenset[int] = frozenset()
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer; None for an empty body. Other statuses than 200 are in `also`."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
        url = URL(f"{str(self._url).rstrip('/')}/{path}", encoded=True)
        with connection_errors():
            async with self._http.request(
                method, url, json=body, headers=self._headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200 and response.status not in also:
                    error = await response_error(response, self._clock)
                    is_of_order = path == "prompt"  # elsewhere, no order is at fault
                    raise error if is_of_order or not isinstance(error, Rejected | BadImage) else Denied(error.detail)
                try:
                    content = await read_body(response, max_bytes=_MAX_BYTES)
                except TooLarge as error:
                    raise Transient(f"an answer of the inference service has {error}") from error
                return response.status, await _parsed(content)


async def _parsed(content: bytes) -> Any:
    if not content.strip():
        return None
    try:
        return await asyncio.to_thread(json.loads, content) if len(content) > _IN_LOOP else json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Transient("an answer of the inference service is not JSON") from error


def _names(items: object, prompt_id: str) -> bool:
    """Whether a list of the queue holds a job with this id; a job is a list of number, id, graph and more."""
    return isinstance(items, list) and any(
        isinstance(item, list) and len(item) > 1 and item[1] == prompt_id for item in items
    )
