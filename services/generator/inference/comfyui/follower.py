"""The websocket of one run: progress, previews, a hint that it has ended.

    aiohttp ws ──text──▶ progress, executing, execution_success, …   ──▶ on_progress, `changed`
               ──binary─▶ previews (events 1 and 4)                   ──▶ on_preview

Nothing depends on it: a lost websocket is opened again, and the history decides what the outcome is.
Source: ComfyUI 0.12.1, server.py, protocol.py, comfy_execution/progress.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Final

import aiohttp
from yarl import URL

from services.generator.inference.port import OnPreview, OnProgress

log = logging.getLogger(__name__)

_RECONNECT_S: Final = 1.0
_HEARTBEAT_S: Final = 20.0
_CLOSE_S: Final = 0.2  # a cancelled call waits no longer for the end of the websocket
_MAX_MESSAGE_BYTES: Final = 4_000_000  # a preview has about 30 kB; the state of a large graph less than 100 kB
_MAX_PREVIEW_BYTES: Final = 256 * 1024
_ENDS: Final = frozenset({"execution_success", "execution_error", "execution_interrupted"})
_FLAGS: Final = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
_PREVIEW: Final = 1
_PREVIEW_WITH_METADATA: Final = 4


class RunFollower:
    """Follows the run with this id; `stages` are the nodes that take steps, in their order."""

    def __init__(
        self,
        prompt_id: str,
        stages: tuple[str, ...],
        steps: int,
        on_progress: OnProgress,
        on_preview: OnPreview | None,
    ) -> None:
        self.tried = asyncio.Event()  # the first connection is open, or has failed
        self.is_connected = False
        self.changed = asyncio.Event()  # the run may have ended: the history decides
        self._prompt_id = prompt_id
        self._done = dict.fromkeys(stages, (0, steps))
        self._node: str | None = None
        self._remaining = 0  # of the queue
        self._on_progress = on_progress
        self._on_preview = on_preview

    async def run(self, http: aiohttp.ClientSession, url: URL, headers: dict[str, str]) -> None:
        """Listen until cancelled."""
        # a session of its own, over the same connections: `ws_connect` cannot be told to follow no redirects
        traces = aiohttp.TraceConfig()
        traces.on_request_redirect.append(_refuse_redirect)
        async with aiohttp.ClientSession(
            connector=http.connector, connector_owner=False, trace_configs=[traces]
        ) as session:
            await self._listen(session, url, headers)

    async def _listen(self, http: aiohttp.ClientSession, url: URL, headers: dict[str, str]) -> None:
        timeout = aiohttp.ClientWSTimeout(ws_close=_CLOSE_S)
        while True:
            try:
                async with http.ws_connect(
                    url, headers=headers, heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES, timeout=timeout
                ) as socket:
                    await socket.send_json(_FLAGS)
                    self.is_connected = True
                    self.tried.set()
                    async for message in socket:
                        self.handle(message)
                log.debug("the websocket of the inference service was closed: %s", socket.close_code)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                log.debug("no websocket to the inference service: %s", type(error).__name__)
            if self.is_connected:
                self.changed.set()  # the server may be gone, with the run
            self.is_connected = False
            self.tried.set()
            await asyncio.sleep(_RECONNECT_S)

    def handle(self, message: aiohttp.WSMessage) -> None:
        """One message; what is malformed, or about another run, is ignored."""
        if message.type is aiohttp.WSMsgType.BINARY:
            self._handle_frame(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            try:
                found = json.loads(message.data)
            except (ValueError, RecursionError):
                return
            data = found.get("data") if isinstance(found, dict) else None
            if isinstance(data, dict) and isinstance(found.get("type"), str):
                self._handle_event(found["type"], data)

    def _handle_event(self, kind: str, data: dict[str, Any]) -> None:
        node = data.get("node")
        if kind == "status":
            self._note_queue(data)
        if kind == "executing" and "prompt_id" not in data:  # the state after a reconnect
            self._node = node if isinstance(node, str) else None
        if data.get("prompt_id") != self._prompt_id:
            return
        if kind == "executing":
            self._node = node if isinstance(node, str) else None
        if kind in _ENDS or (kind == "executing" and node is None):
            self.changed.set()
        elif kind == "progress" and isinstance(node, str):
            self._note_step(node, data.get("value"), data.get("max"))

    def _note_queue(self, data: dict[str, Any]) -> None:
        """A queue that becomes shorter may have lost our run."""
        match data:
            case {"status": {"exec_info": {"queue_remaining": int(remaining)}}}:
                if remaining < self._remaining:
                    self.changed.set()
                self._remaining = remaining

    def _note_step(self, node: str, value: object, of: object) -> None:
        if node in self._done and isinstance(value, int) and isinstance(of, int) and 0 <= value <= of:
            self._done[node] = (value, of)
            steps, all_steps = (sum(each) for each in zip(*self._done.values(), strict=True))
            self._on_progress(steps, all_steps)

    def _handle_frame(self, frame: bytes) -> None:
        """Words are 32 bits, big-endian. 1: type, picture. 4: length of the metadata, metadata in JSON, picture."""
        event, word = int.from_bytes(frame[:4]), int.from_bytes(frame[4:8])
        node = self._node  # without metadata: the server sends us our own previews only
        if event == _PREVIEW:
            picture = frame[8:]
        elif event == _PREVIEW_WITH_METADATA:
            picture = frame[8 + word :]
            node = self._node_of(frame[8 : 8 + word])
        else:
            return
        if self._on_preview is not None and node in self._done and 0 < len(picture) <= _MAX_PREVIEW_BYTES:
            self._on_preview(picture)

    def _node_of(self, metadata: bytes) -> str | None:
        """The node of the metadata, if they are about our run."""
        try:
            found = json.loads(metadata)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("prompt_id") != self._prompt_id:
            return None
        node = found.get("real_node_id") or found.get("node_id")
        return node if isinstance(node, str) else None


async def _refuse_redirect(_session: object, _context: object, _redirect: object) -> None:
    """Another address may be one inside our network."""
    raise aiohttp.ClientError("the websocket is redirected, and redirects are not followed")
