"""The websockets of the clients: one writer with a bounded queue each, so that a slow client harms only itself."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import WSCloseCode, web

from common.domain.errors import LimitReached
from common.runtime import metrics
from services.api.events.live import ClientEvent

CLOSE_S: Final = 2.0  # for the closing handshake


class Client:
    """One websocket. The reader of the event log puts frames into its queue, its own writer sends them.

    Only the newest progress of an image and the newest queue positions are kept. A client whose queue overflows is
    `too_slow`, and has to be closed.
    """

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, *, buffer: int) -> None:
        self.socket = socket
        self._transport = transport
        self._buffer = buffer
        self._queue: OrderedDict[str, ClientEvent | str] = OrderedDict()
        self._queued = asyncio.Event()
        self.too_slow = asyncio.Event()

    def on_event(self, event: ClientEvent) -> None:
        """Queue an event; never waits."""
        self._put(f"progress {event.event.subject}" if event.is_progress else event.cursor, event)

    def on_queue_positions(self, frame: str) -> None:
        """Queue a frame of queue positions; never waits."""
        self._put("places", frame)

    def _put(self, key: str, item: ClientEvent | str) -> None:
        self._queue.pop(key, None)
        self._queue[key] = item
        if len(self._queue) > self._buffer:
            self.too_slow.set()
        self._queued.set()

    async def write(self) -> None:
        """Send what is queued, at the speed of the client; never returns."""
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                _, item = self._queue.popitem(last=False)
                await self.socket.send_str(item if isinstance(item, str) else item.frame)

    async def close(self, code: int, reason: str) -> None:
        """Close with a reason; the connection of a client that does not read is aborted."""
        if not self.socket.prepared:
            self.abort()
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.socket.close(code=code, message=reason.encode())
        except (TimeoutError, ConnectionError):
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Clients:
    """The open websockets of this process, by owner."""

    def __init__(self, *, max_per_owner: int) -> None:
        self._max_per_owner = max_per_owner
        self._clients: dict[str, set[Client]] = {}

    @contextmanager
    def opened(self, owner: str, client: Client) -> Iterator[None]:
        """Count the websocket of this owner as open.

        Raises:
            LimitReached: `websocket_limit`, the owner has too many of them.
        """
        clients = self._clients.setdefault(owner, set())
        if len(clients) >= self._max_per_owner:
            raise LimitReached(f"{len(clients)} websockets are already open", code="websocket_limit", retry_after_s=5)
        clients.add(client)
        metrics.websockets.inc()
        try:
            yield
        finally:
            metrics.websockets.dec()
            clients.discard(client)
            if not clients:
                self._clients.pop(owner, None)

    async def close_all(self) -> None:
        """The service stops: close all websockets at the same time."""
        clients = [client for owned in self._clients.values() for client in owned]
        await asyncio.gather(*(client.close(WSCloseCode.GOING_AWAY, "the server stops") for client in clients))
