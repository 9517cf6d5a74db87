"""Tickets: a page cannot give a websocket a header, so it fetches one by REST and offers it as a subprotocol.

    POST /api/ws-tickets/ ─▶ {ticket}      GET /ws, Sec-WebSocket-Protocol: darkroom.v1, ticket.<ticket>

A ticket holds for 30 seconds and once: the store drops its entry for exactly one of several that come with it. It is
never part of a URL, which proxies write into their logs.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from common.domain.errors import Unauthorized
from common.domain.views import iso
from common.store.port import Entry
from services.api.auth.identity import Caller
from services.api.context import Call, Context, Operation, answer
from services.api.routes.schema import Ticket

KIND: Final = "ticket"
PROTOCOL: Final = "darkroom.v1"
HOLDS_S: Final = 30
_OFFER: Final = "ticket."


async def issue(call: Call) -> web.Response:
    """A ticket for one websocket of this caller."""
    clock, ticket = call.context.clock, secrets.token_urlsafe(32)
    caller = call.caller
    data = {"owner": caller.owner}
    if caller.until is not None:
        data["until"] = iso(caller.until)
    if caller.key_id is not None:
        data["key_id"] = caller.key_id
    expires_at = clock.now() + timedelta(seconds=HOLDS_S)
    await call.context.store.put_entry(Entry(KIND, _key(ticket), 1, data, expires_at))
    return answer(Ticket(ticket=ticket, expires_in=HOLDS_S), status=201, headers={"Cache-Control": "no-store"})


OPERATIONS: Final = [
    Operation(
        "POST",
        "/api/ws-tickets/",
        issue,
        "A ticket for one websocket",
        answers={201: Ticket},
        problems=(401, 403, 406, 413, 503),
    )
]


async def redeem(request: web.Request, context: Context) -> Caller:
    """Who a websocket's ticket is for.

    Raises:
        Unauthorized: it offers none, or one that was used, has expired, or never was.
    """
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    tickets = [part.strip()[len(_OFFER) :] for part in offered if part.strip().startswith(_OFFER)]
    if len(tickets) != 1:
        raise Unauthorized
    store, key = context.store, _key(tickets[0])
    entry = await store.get_entry(KIND, key)
    if entry is None or entry.expires_at is None or entry.expires_at <= context.clock.now():
        raise Unauthorized
    if not await store.remove_entry(KIND, key):
        raise Unauthorized
    until = entry.data.get("until")
    return Caller(entry.data["owner"], datetime.fromisoformat(until) if until else None, entry.data.get("key_id"))


def _key(ticket: str) -> str:
    """Who reads the store must not learn a ticket from it."""
    return hashlib.sha256(ticket.encode()).hexdigest()
