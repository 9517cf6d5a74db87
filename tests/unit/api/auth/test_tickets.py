"""Tickets: each is redeemed once, within its lifetime, by the caller it was issued to."""

from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import make_mocked_request

from common.domain.errors import Unauthorized
from common.runtime.clock import ManualClock
from common.store.sqlite import SqliteStore
from services.api.auth.identity import Caller
from services.api.auth.tickets import LIFETIME_S, Tickets

CALLER = Caller("ada", datetime(2030, 1, 1, tzinfo=UTC), "key")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def tickets(tmp_path, clock):
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield Tickets(store, clock)


def a_request(protocols):
    return make_mocked_request("GET", "/ws", headers={"Sec-WebSocket-Protocol": protocols})


async def test_a_ticket_is_redeemed_once(tickets):
    request = a_request(f"darkroom.v1, ticket.{await tickets.issue(CALLER)}")

    assert await tickets.redeem(request) == CALLER
    with pytest.raises(Unauthorized):
        await tickets.redeem(request)


async def test_a_ticket_expires(tickets, clock):
    request = a_request(f"ticket.{await tickets.issue(CALLER)}")
    clock.advance(LIFETIME_S)

    with pytest.raises(Unauthorized):
        await tickets.redeem(request)


@pytest.mark.parametrize("protocols", ["", "darkroom.v1", "ticket.", "ticket.unknown", "ticket.a, ticket.b"])
async def test_other_protocols_are_no_ticket(tickets, protocols):
    with pytest.raises(Unauthorized):
        await tickets.redeem(a_request(protocols))
