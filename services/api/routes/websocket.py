"""`GET /ws`: the live events of one owner, to clients of any speed.

Each websocket has one writer and one bounded queue. A client that does not read is closed with 1013.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import WSCloseCode, WSMsgType, web

from common.domain.errors import Invalid, Unavailable
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store
from services.api.auth.identity import Caller, Identity
from services.api.context import Context
from services.api.events.client import Client, Clients
from services.api.events.live import LiveEvents
from services.api.events.model_changes import ModelChanges
from services.api.events.queue_positions import QueuePositions
from services.api.events.snapshot import unfinished_images
from services.api.events.stream import EventStream
from services.api.presenter import Presenter
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup

log = logging.getLogger(__name__)

PROTOCOL: Final = "darkroom.v1"
MAX_MESSAGE_BYTES: Final = 4096  # clients have nothing to send
MESSAGES_PER_MINUTE: Final = 60  # with pings, and besides the answers to ours
READY_S: Final = 10.0  # longest wait of a websocket for a replica that still reads the event log
RECHECK_S: Final = 60.0  # the websocket of a revoked key stays open no longer than this
_READ_TYPES: Final = frozenset({WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG})
CREDENTIAL_ENDED: Final = 4401  # RFC 6455, section 7.4.2: applications may use 4000 to 4999


@dataclass(frozen=True, slots=True)
class WebsocketRoutes:
    settings: Settings
    clock: Clock
    store: Store
    identity: Identity
    live: LiveEvents
    queue_positions: QueuePositions
    model_changes: ModelChanges
    clients: Clients
    presenter: Presenter

    @classmethod
    def of(cls, context: Context) -> WebsocketRoutes:
        return cls(
            settings=context.settings,
            clock=context.clock,
            store=context.store,
            identity=context.identity,
            live=context.live,
            queue_positions=context.queue_positions,
            model_changes=context.model_changes,
            clients=context.clients,
            presenter=context.presenter,
        )

    async def open(self, call: PlainCall) -> web.StreamResponse:
        """Opens a websocket and sends the events of the owner until either side closes it."""
        socket = web.WebSocketResponse(
            protocols=[PROTOCOL],
            autoping=False,  # aiohttp would answer any number of pings
            writer_limit=0,  # wait for the client after each frame
            max_msg_size=MAX_MESSAGE_BYTES,
            compress=False,
        )
        if not socket.can_prepare(call.request):
            raise Invalid("this is a websocket: open it with an upgrade", code="not_a_websocket")
        client = Client(
            socket, call.request.transport, buffer=self.settings.websocket_buffer, flushes=self.clients.flushes
        )
        # counted before anything is awaited, or two requests could take the last place
        with self.clients.opened(call.owner, client):
            try:
                await self._ready()
                await socket.prepare(call.request)
                client.keep_buffers_small()
                with (
                    self.queue_positions.subscribed(call.owner, client.on_queue_positions),
                    self.model_changes.subscribed(call.owner, client.on_hint),
                ):
                    await self._serve(client, call.caller, call.request.query.get("after"))
            except (ConnectionError, TimeoutError):
                log.debug("a websocket was disconnected")
        return socket

    async def _ready(self) -> None:
        try:
            async with asyncio.timeout(READY_S):
                await self.live.ready()
        except TimeoutError as error:
            raise Unavailable("events", "the event log is still being read") from error

    async def _serve(self, client: Client, caller: Caller, after: str | None) -> None:
        """Serve until the client closes, floods or is too slow, or its credential ends."""

        async def snapshot(kind: Literal["hello", "gap"], cursor: str) -> str:
            # the cursor is older than the images: what happens in between also comes as an event
            found, more = await unfinished_images(self.store, caller.owner)
            # before the frame is sent, which may take long: else the end of an image would be missed in between
            self.queue_positions.add_queued(caller.owner, found)
            self.model_changes.add_queued(caller.owner, found)
            return self.presenter.snapshot_frame(kind, cursor, found, more=more)

        heartbeat_s = self.settings.websocket_heartbeat
        stream = EventStream(self.live, client, owner=caller.owner, snapshot=snapshot)
        tasks = [
            asyncio.create_task(stream.run(after)),
            asyncio.create_task(_read(client, self.clock, heartbeat_s=heartbeat_s)),
            asyncio.create_task(client.too_slow.wait()),
            dead := asyncio.create_task(client.until_dead(heartbeat_s)),
            valid := asyncio.create_task(self._until_credential_ends(caller)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, ConnectionError):
                log.warning("the event stream of a websocket failed: %r", result)
        await _close(client, has_credential_ended=_has_returned(valid), is_dead=_has_returned(dead))

    async def _until_credential_ends(self, caller: Caller) -> None:
        """Return when the caller would no longer be accepted."""
        while True:
            try:
                if not await self.identity.is_still_valid(caller):
                    return
            except Unavailable as error:
                log.debug("credential not checked: %s", error)
            left_s = (caller.until - self.clock.now()).total_seconds() if caller.until else RECHECK_S
            await asyncio.sleep(min(max(left_s, 0), RECHECK_S))


OPERATIONS: Final = (
    Operation(
        "websocket_live",
        "GET",
        "/ws",
        NO_INPUT,
        WebsocketRoutes.open,
        "Receive live events by websocket; `?after=<cursor>` resumes",
        answers={101: None},
        problems=(400, 401, 403, 429, 503),
        other_credential="ticket",
    ),
)
GROUP: Final = RouteGroup(WebsocketRoutes.of, OPERATIONS)


def _has_returned(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _read(client: Client, clock: Clock, *, heartbeat_s: float) -> None:
    """Read the client's close, its pings and its pongs. A client that sends other messages, or floods, is closed."""
    most = MESSAGES_PER_MINUTE + 60 / heartbeat_s
    window_ends_s, messages = clock.monotonic() + 60, 0
    async for message in client.socket:
        if clock.monotonic() > window_ends_s:
            window_ends_s, messages = clock.monotonic() + 60, 0
        messages += 1
        client.received += 1
        if message.type is WSMsgType.PING:
            await client.socket.pong(message.data)
        if message.type not in _READ_TYPES or messages > most:
            await client.close(WSCloseCode.POLICY_VIOLATION, "clients send no messages")
            return


async def _close(client: Client, *, has_credential_ended: bool, is_dead: bool) -> None:
    if is_dead:
        log.debug("a websocket was closed: its client does not answer")
        await client.close(WSCloseCode.TRY_AGAIN_LATER, "pings are not answered")
    elif client.too_slow.is_set():
        log.info("a websocket was closed: its client does not read")
        await client.close(WSCloseCode.TRY_AGAIN_LATER, "events are not read fast enough")
    elif has_credential_ended:
        await client.close(CREDENTIAL_ENDED, "the token has expired, or the key was revoked")
    elif not client.socket.closed:
        await client.close(WSCloseCode.INTERNAL_ERROR, "the stream ended; resume with the last cursor")
