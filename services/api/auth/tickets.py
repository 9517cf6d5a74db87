"""Tickets: credentials for one websocket each, because a web page cannot send a header with a websocket.

    POST /api/ws-tickets/ ─▶ {ticket}      GET /ws, Sec-WebSocket-Protocol: darkroom.v1, ticket.<ticket>

A ticket is valid for 30 seconds and can be used once: if several requests come with it, the store removes its entry
for exactly one of them. It is never part of a URL, because proxies write URLs into their logs.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

from aiohttp import web

from common.domain.errors import Unauthorized
from common.domain.views import iso
from common.runtime.clock import Clock
from common.store.port import Entry, Store
from services.api.auth.identity import Caller

KIND: Final = "ticket"
LIFETIME_S: Final = 30
_PREFIX: Final = "ticket."


class Tickets:
    """Issues and redeems the tickets; the store keeps them, so any replica can redeem one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def issue(self, caller: Caller) -> str:
        """A new ticket for one websocket of this caller."""
        ticket = secrets.token_urlsafe(32)
        data = {"owner": caller.owner}
        if caller.until is not None:
            data["until"] = iso(caller.until)
        if caller.key_id is not None:
            data["key_id"] = caller.key_id
        expires_at = self._clock.now() + timedelta(seconds=LIFETIME_S)
        await self._store.put_entry(Entry(KIND, _key(ticket), 1, data, expires_at))
        return ticket

    async def redeem(self, request: web.Request) -> Caller:
        """The caller to whom the ticket in the websocket's subprotocols was issued.

        Raises:
            Unauthorized: there is no ticket, or it was used before, has expired, or never existed.
        """
        protocols = ",".join(request.headers.getall("Sec-WebSocket-Protocol", [])).split(",")
        found = [part.strip()[len(_PREFIX) :] for part in protocols if part.strip().startswith(_PREFIX)]
        if len(found) != 1 or not found[0].isascii():
            raise Unauthorized
        key = _key(found[0])
        entry = await self._store.get_entry(KIND, key)
        if entry is None or entry.expires_at is None or entry.expires_at <= self._clock.now():
            raise Unauthorized
        if not await self._store.remove_entry(KIND, key):
            raise Unauthorized
        until = entry.data.get("until")
        return Caller(entry.data["owner"], datetime.fromisoformat(until) if until else None, entry.data.get("key_id"))


def _key(ticket: str) -> str:
    """A hash, so that a reader of the store does not learn the ticket."""
    return hashlib.sha256(ticket.encode()).hexdigest()
