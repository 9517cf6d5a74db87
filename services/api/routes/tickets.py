"""`POST /api/ws-tickets/`: a credential for one websocket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from services.api.auth.tickets import LIFETIME_S, Tickets
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup, answer
from services.api.routes.schema import Ticket


@dataclass(frozen=True, slots=True)
class TicketRoutes:
    tickets: Tickets

    async def issue(self, call: PlainCall) -> web.Response:
        """Issues a ticket for one websocket of the caller."""
        ticket = await self.tickets.issue(call.caller)
        body = Ticket(ticket=ticket, expires_in=LIFETIME_S)
        return answer(body, status=201, headers={"Cache-Control": "no-store"})


OPERATIONS: Final = (
    Operation(
        "tickets_issue",
        "POST",
        "/api/ws-tickets/",
        NO_INPUT,
        TicketRoutes.issue,
        "Issue a ticket for one websocket",
        answers={201: Ticket},
        problems=(401, 403, 406, 413, 503),
    ),
)
GROUP: Final = RouteGroup(lambda context: TicketRoutes(context.tickets), OPERATIONS)
