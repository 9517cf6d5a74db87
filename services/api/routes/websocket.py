"""`GET /ws`: the live events of one owner, resumed from any cursor without a loss, to clients of any speed.

hello (or gap) ─▶ what came since the cursor ─▶ live
                                                 │ each socket: one writer, one bounded queue
                                                 └ progress, places: the newest only; too slow: closed with 1013
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from typing import Final

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from common.domain.errors import CursorGone, Invalid, LimitReached, Unavailable
from common.domain.images import Status
from common.runtime import metrics
from common.runtime.clock import Clock
from services.api.context import Call, Operation
from services.api.events.live import ClientEvent
from services.api.routes.tickets import PROTOCOL

log = logging.getLogger(__name__)

SOCKETS: Final = web.AppKey("sockets", dict[str, set["Client"]])
IN_FLIGHT: Final = frozenset({Status.QUEUED, Status.RUNNING})
SNAPSHOT: Final = 200  # images in flight that a hello shows; limits keep an owner far below
MAX_MESSAGE_BYTES: Final = 4096  # clients have nothing to say
MESSAGES_PER_MINUTE: Final = 60
ASKED_AGAIN_S: Final = 60.0  # a revoked key keeps its socket no longer than this
UNKNOWN_AGAIN: Final = 4401  # RFC 6455, section 7.4.2: 4000 to 4999 are an application's own
CLOSE_S: Final = 2.0  # for the closing handshake


class Client:
    """One socket: events go into its queue from the reader of the log, and out by its own writer."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, *, buffer: int) -> None:
        self.socket = socket
        self._transport = transport
        self._buffer = buffer
        self._queue: OrderedDict[str, ClientEvent | str] = OrderedDict()
        self._news = asyncio.Event()
        self.too_slow = asyncio.Event()

    def on_event(self, shown: ClientEvent) -> None:
        """Queue an event; of progress only the newest is kept. Never waits."""
        self._put(f"progress {shown.event.subject}" if shown.is_progress else shown.cursor, shown)

    def on_queue_positions(self, frame: str) -> None:
        """Queue a frame of places; only the newest is kept. Never waits."""
        self._put("places", frame)

    def _put(self, key: str, said: ClientEvent | str) -> None:
        self._queue.pop(key, None)
        self._queue[key] = said
        if len(self._queue) > self._buffer:
            self.too_slow.set()
        self._news.set()

    async def write(self) -> None:
        """Send what is queued for as long as the client reads; never returns by itself."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                _, said = self._queue.popitem(last=False)
                await self.socket.send_str(said if isinstance(said, str) else said.frame)

    async def close(self, code: int, reason: str) -> None:
        """Say why and close; a client that does not even read that is cut off."""
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


async def live(call: Call) -> web.StreamResponse:
    """Upgrade, say hello, and show events until either side closes."""
    context, request = call.context, call.request
    sockets = request.app[SOCKETS].setdefault(call.owner, set())
    if len(sockets) >= context.settings.websockets_per_owner:
        raise LimitReached(f"{len(sockets)} websockets are open already", code="websocket_limit", retry_after_s=5)
    socket = web.WebSocketResponse(
        protocols=[PROTOCOL],
        heartbeat=context.settings.websocket_heartbeat,
        max_msg_size=MAX_MESSAGE_BYTES,
        compress=False,
    )
    if not socket.can_prepare(request):
        raise Invalid("this is a websocket: it is opened by an upgrade", code="not_a_websocket")
    client = Client(socket, request.transport, buffer=context.settings.websocket_buffer)
    sockets.add(client)  # before anything is waited for, or two could take the last place
    metrics.websockets.inc()
    try:
        await context.live.ready()
        await socket.prepare(request)
        with context.queue_positions.subscribed(call.owner, client.on_queue_positions):
            await _converse(client, call, request.query.get("after"))
    except (ConnectionError, TimeoutError):
        log.debug("a websocket broke off")
    finally:
        metrics.websockets.dec()
        sockets.discard(client)
        if not sockets:
            request.app[SOCKETS].pop(call.owner, None)
    return socket


OPERATIONS: Final = [
    Operation(
        "GET",
        "/ws",
        live,
        "Live events by websocket; `?after=<cursor>` resumes",
        answers={101: None},
        problems=(400, 401, 403, 429),
        instead_of_header="ticket",
    )
]


async def close_all(app: web.Application) -> None:
    """The service stops: tell every client so, all at once."""
    clients = [client for sockets in app[SOCKETS].values() for client in sockets]
    await asyncio.gather(*(client.close(WSCloseCode.GOING_AWAY, "the server stops") for client in clients))


async def _converse(client: Client, call: Call, after: str | None) -> None:
    """Until the client closes, floods, or falls too far behind; whichever ends first ends the others."""
    tasks = [
        asyncio.create_task(_show(client, call, after)),
        asyncio.create_task(_read(client, call.context.clock)),
        asyncio.create_task(client.too_slow.wait()),
        knowing := asyncio.create_task(_while_known(call)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError):
            log.warning("a websocket's stream ended: %r", result)
    if client.too_slow.is_set():
        log.info("a websocket does not read: closed")
        await client.close(WSCloseCode.TRY_AGAIN_LATER, "events are not read fast enough")
    elif knowing.done() and not knowing.cancelled():
        await client.close(UNKNOWN_AGAIN, "the token has expired, or the key was revoked")
    elif not client.socket.closed:
        await client.close(WSCloseCode.INTERNAL_ERROR, "the stream ended; resume with the last cursor")


async def _show(client: Client, call: Call, after: str | None) -> None:
    live_events = call.context.live
    if after is None:
        async with live_events.subscribed(call.owner, client.on_event):
            await _snapshot(client, call, "hello", live_events.cursor)
            await client.write()
        return
    try:
        await _catch_up(client, call, after)
    except CursorGone:
        async with live_events.subscribed(call.owner, client.on_event):
            await _snapshot(client, call, "gap", live_events.cursor)
            await client.write()


async def _catch_up(client: Client, call: Call, after: str) -> None:
    """Hello with the client's own cursor, then what it missed, then live; nothing twice, nothing left out."""
    live_events, owner = call.context.live, call.owner
    if live_events.since(after) is None:
        # not old, but ahead: a replica that read further gave it, and repeats up there are not known here yet
        await live_events.caught_up()
    greeted = False

    async def greet() -> None:
        nonlocal greeted
        if not greeted:
            await _snapshot(client, call, "hello", after)
            greeted = True

    while not greeted or (missed := live_events.since(after)) is None:
        if live_events.since(after) is not None:
            await greet()
            continue
        async for cursor, shown in live_events.older(after):
            await greet()
            after = cursor
            if shown is not None and shown.event.owner == owner:
                await client.socket.send_str(shown.frame)
    # between the look above and `subscribed` nothing is awaited: what was missed and what is live meet without a seam
    async with live_events.subscribed(owner, client.on_event):
        for shown in missed:
            if shown.event.owner == owner:
                await client.socket.send_str(shown.frame)
        await client.write()


async def _while_known(call: Call) -> None:
    """Returns when who opened the socket would no longer be let in."""
    identity, clock, until = call.context.identity, call.context.clock, call.caller.until
    while True:
        try:
            if not await identity.is_still_valid(call.caller):
                return
        except Unavailable as error:
            log.debug("not asked again: %s", error)
        left_s = (until - clock.now()).total_seconds() if until else ASKED_AGAIN_S
        await asyncio.sleep(min(max(left_s, 0), ASKED_AGAIN_S))


async def _snapshot(client: Client, call: Call, kind: str, cursor: str) -> None:
    """The cursor was taken before the images are read: what happens in between comes as an event as well."""
    context = call.context
    found = await context.store.history(call.owner, IN_FLIGHT, limit=SNAPSHOT)
    images = [context.view(image).model_dump(mode="json", by_alias=True) for image in found]
    context.queue_positions.expect(
        call.owner, found
    )  # before what may take long, or an end in between would be forgotten
    await client.socket.send_str(json.dumps({"type": kind, "cursor": cursor, "images": images}, ensure_ascii=False))


async def _read(client: Client, clock: Clock) -> None:
    """Clients have nothing to say; reading hears their close and their pongs. One that floods is closed."""
    window_ends_s, messages = clock.monotonic() + 60, 0
    async for message in client.socket:
        if clock.monotonic() > window_ends_s:
            window_ends_s, messages = clock.monotonic() + 60, 0
        messages += 1
        if not _is_text(message) or messages > MESSAGES_PER_MINUTE:
            await client.close(WSCloseCode.POLICY_VIOLATION, "nothing is expected from a client")
            return


def _is_text(message: WSMessage) -> bool:
    return message.type is WSMsgType.TEXT
