"""The websockets of the fake ComfyUI: a client is sent what is about its own prompts, all are told of the queue."""

import asyncio
import json
import struct
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, web

from tests.engines.engine import one_colour


class ComfyuiSockets:
    """The open websockets, by the id of their client."""

    def __init__(self, queue_status: Callable[[], dict]) -> None:
        self._queue_status = queue_status
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._flags: set[str] = set()  # the clients that have sent their feature flags

    async def open(self, request: web.Request) -> tuple[web.WebSocketResponse, str]:
        """A new websocket, which has been told of the queue, with the id of its client."""
        socket, sid = web.WebSocketResponse(), request.query["clientId"]
        await socket.prepare(request)
        self._sockets[sid] = socket
        await socket.send_json({"type": "status", "data": {"status": self._queue_status(), "sid": sid}})
        return socket, sid

    async def listen(self, socket: web.WebSocketResponse, sid: str) -> None:
        """Read what the client sends, until the websocket closes."""
        async for message in socket:
            if message.type is WSMsgType.TEXT and json.loads(message.data)["type"] == "feature_flags":
                self._flags.add(sid)
                flags = {"supports_preview_metadata": True, "max_upload_size": 104857600, "extension": {}}
                await socket.send_json({"type": "feature_flags", "data": flags})
        self._sockets.pop(sid, None)

    async def flood(self, content: bytes) -> None:
        for socket in list(self._sockets.values()):
            with suppress(ConnectionError):
                await socket.send_bytes(content)
        await asyncio.sleep(0)

    async def close(self, code: int = WSCloseCode.OK) -> None:
        for socket in list(self._sockets.values()):
            await socket.close(code=code)

    async def send(self, kind, item, **data) -> None:
        sid = item[3].get("client_id")
        if sid in self._sockets:
            with suppress(ConnectionError):
                await self._sockets[sid].send_json({"type": kind, "data": data | {"prompt_id": item[1]}})

    async def send_status(self) -> None:
        for socket in list(self._sockets.values()):
            with suppress(ConnectionError):
                await socket.send_json({"type": "status", "data": {"status": self._queue_status()}})

    def takes_metadata(self, item) -> bool:
        """Whether previews come with the place of their node."""
        return item[3].get("client_id") in self._flags

    async def send_preview(self, item, node) -> None:
        sid = item[3].get("client_id")
        if sid not in self._sockets:
            return
        content = one_colour(b"\x80\x40\x20", (512, 512), "JPEG")
        if self.takes_metadata(item):
            about = json.dumps({**place(item, node), "image_type": "image/jpeg"}).encode()
            frame = struct.pack(">II", 4, len(about)) + about + content
        else:
            frame = struct.pack(">II", 1, 1) + content
        with suppress(ConnectionError):
            await self._sockets[sid].send_bytes(frame)


def place(item, node) -> dict:
    """The node of a prompt, as messages name it."""
    return {
        "node_id": node,
        "prompt_id": item[1],
        "display_node_id": node,
        "parent_node_id": None,
        "real_node_id": node,
    }
