"""The websockets of the clients: a bounded queue each, so that a slow client harms only itself.

event ──▶ queue ──▶ flush: straight to the kernel, for as long as the kernel takes all of it
              └───▶ write: a task that waits for a client that reads slowly
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final

from aiohttp import WSCloseCode, web

from common.domain.errors import LimitReached
from common.runtime import metrics
from services.api.events.flushing import FlushQueue
from services.api.events.frames import text_frame
from services.api.events.live import ClientEvent

CLOSE_S: Final = 2.0  # a client that reads nothing for this long while it is closed is disconnected
LONGEST_CLOSE_S: Final = 30.0  # the close frame waits behind one frame: 64 kB take 4 s at 20 kB/s
CHECK_S: Final = 0.1
UNSENT_BYTES: Final = 16_384  # that the kernel holds beyond what the client's side can take
MAX_WRITE: Final = 4096  # bytes of several frames; what the kernel leaves of a write delays the close frame


class Client:
    """One websocket. The reader of the event log puts frames into its queue; a flush, or its own writer, sends them.

    Only the newest progress of an image and the newest queue positions are kept. While a frame waits for a client
    that reads slowly, another event drops the progress that is queued before it: the end of an image never waits for
    previews. A client whose queue overflows nevertheless is `too_slow`, and has to be closed.
    """

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        *,
        buffer: int,
        flushes: FlushQueue | None = None,
    ) -> None:
        self.socket = websocket
        self.received = 0  # messages, with the answers to pings
        self.too_slow = asyncio.Event()
        self._transport = transport
        self._buffer = buffer
        self._queue: dict[str, ClientEvent | str] = {}
        self._queued = asyncio.Event()
        self._flushes = flushes or FlushQueue()
        self._is_keeping_up = False  # the kernel has taken all that was sent
        self._is_flushing = False
        self._sent = 0
        self._sending = 0

    def keep_buffers_small(self) -> None:
        """Let frames wait in the queue, where newer ones replace them, and not in the buffers below it."""
        if self._transport is None:
            return
        self._transport.set_write_buffer_limits(high=0)
        connection = self._transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with suppress(OSError):  # not a TCP socket
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def on_event(self, event: ClientEvent) -> None:
        """Queue an event; never waits."""
        if not self._queue and self._is_keeping_up and not self._is_flushing:  # nearly always
            self._queue[event.key] = event
            self._is_flushing = True
            self._flushes.add(self._flush)
            return
        if self._sending and not event.is_progress:
            self._drop_progress()
        self._put(event.key, event)

    def on_queue_positions(self, frame: str) -> None:
        """Queue a frame of queue positions; never waits."""
        self._put("places", frame)

    def on_hint(self, kind: str, frame: str) -> None:
        """Queue a frame that replaces an older one of its kind; never waits."""
        self._put(kind, frame)

    def _put(self, key: str, item: ClientEvent | str) -> None:
        queue = self._queue
        if key in queue:
            del queue[key]
        queue[key] = item
        if len(queue) > self._buffer:
            self._drop_progress()
            if len(queue) > self._buffer:
                self.too_slow.set()
        if not self._is_keeping_up:
            self._queued.set()
        elif not self._is_flushing:
            self._is_flushing = True
            self._flushes.add(self._flush)

    def _drop_progress(self) -> None:
        queue = self._queue
        for key in [key for key, item in queue.items() if not isinstance(item, str) and item.is_progress]:
            del queue[key]

    def _flush(self) -> None:
        """Send what is queued without a task, until the kernel no longer takes all of it."""
        self._is_flushing = False
        transport = self._transport
        if transport is None or self.socket.closed or transport.is_closing():
            return
        while self._queue:
            if transport.get_write_buffer_size() or not (frames := self._next_frames()):
                self._is_keeping_up = False
                self._queued.set()
                return
            transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
            self._sent += len(frames)

    def _next_frames(self) -> list[bytes]:
        """Frames from the queue for one write; none if the first is large, which the writer sends by itself."""
        frames: list[bytes] = []
        left, queue = MAX_WRITE, self._queue
        for item in queue.values():
            frame = text_frame(item) if isinstance(item, str) else item.wire_frame
            left -= len(frame)
            if left < 0:
                break
            frames.append(frame)
        if len(frames) == len(queue):
            queue.clear()
        else:
            for key in list(islice(queue, len(frames))):
                del queue[key]
        return frames

    async def write(self) -> None:
        """Send what is queued, at the speed of the client; never returns."""
        while True:
            self._queued.clear()
            while self._queue:
                item = self._queue.pop(next(iter(self._queue)))
                await self.send(item if isinstance(item, str) else item.frame)
            self._is_keeping_up = self._transport is not None
            await self._queued.wait()

    async def send(self, frame: str) -> None:
        """Send one frame; returns when the kernel has taken it."""
        self._sending += 1
        try:
            await self.socket.send_str(frame)
        finally:
            self._sending -= 1
        self._sent += 1

    async def until_dead(self, interval_s: float) -> None:
        """Ping at each interval; return when the client has neither answered nor read anything for a whole one.

        A client that reads slowly is alive: the answer to a ping may wait behind a large frame.
        """
        await asyncio.sleep(interval_s)
        pinging: asyncio.Task[None] | None = None
        try:
            while True:
                before = self._activity
                # never cancelled while it waits: in aiohttp all that wait to write are cancelled together
                if pinging is None or pinging.done():
                    pinging = asyncio.create_task(self._ping())
                await asyncio.sleep(interval_s)
                if self._activity == before:
                    return
        finally:
            if pinging is not None:
                pinging.cancel()

    async def _ping(self) -> None:
        with suppress(ConnectionError):  # the reader ends the websocket
            await self.socket.ping()

    @property
    def _unsent(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def _activity(self) -> tuple[int, int, int]:
        return self.received, self._sent, self._unsent

    async def close(self, code: int, reason: str) -> None:
        """Close with a reason; the connection of a client that does not read is aborted."""
        if not self.socket.prepared:
            self.abort()
            return
        closing = asyncio.create_task(self.socket.close(code=code, message=reason.encode()))
        try:
            async with asyncio.timeout(LONGEST_CLOSE_S):
                await self._until_closed(closing)
        except TimeoutError:
            self.abort()
        finally:
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)

    async def _until_closed(self, closing: asyncio.Task[bool]) -> None:
        """Wait for the closing handshake and for all that is sent before it.

        Raises:
            TimeoutError: the client has read nothing for a while.
        """
        before, unchanged_s = self._activity, 0.0
        while not closing.done() or self._unsent:
            if closing.done():
                await asyncio.sleep(CHECK_S)
            else:
                await asyncio.wait([closing], timeout=CHECK_S)
            unchanged_s = unchanged_s + CHECK_S if self._activity == before else 0.0
            before = self._activity
            if unchanged_s > CLOSE_S:
                raise TimeoutError

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Clients:
    """The open websockets of this process, by owner."""

    def __init__(self, *, max_per_owner: int) -> None:
        self.flushes = FlushQueue()
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
