"""The websocket against callers without access or with bad behaviour."""

import asyncio
import time
from contextlib import suppress
from datetime import timedelta

import aiohttp
import pytest
import pytest_asyncio

from common.application.api_keys import ApiKeyStore
from common.runtime.clock import SystemClock
from common.store.sqlite import SqliteStore
from tests.cluster import ORDER, embedded
from tests.inference_double import inference_double
from tests.security import callers

V1 = "darkroom.v1"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory):
    named = {"CORS_ORIGINS": "https://app.example.org"}
    async with (
        inference_double() as inference,
        embedded(
            tmp_path_factory.mktemp("websocket"), INFERENCE_SERVICE_URL=inference.url, **callers.settings_of(), **named
        ) as cluster,
    ):
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def http():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


def bearer(owner="ada", **fields):
    return {"Authorization": f"Bearer {callers.token(owner, **fields)}"}


async def ticket_of(http, cluster, headers) -> str:
    async with http.post(f"{cluster.url}/api/ws-tickets/", headers=headers) as response:
        assert response.status == 201
        body = await response.json()
        assert body["expiresIn"] == 30
        return body["ticket"]


async def refused(http, cluster, **more) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await http.ws_connect(f"{cluster.url}/ws", **more)
    return error.value.status


async def closed_with(socket, limit_s=20.0) -> int:
    async with asyncio.timeout(limit_s):
        async for _ in socket:
            pass
    return socket.close_code


async def test_a_ticket_opens_one_websocket_of_its_owner(http, cluster):
    ticket = await ticket_of(http, cluster, bearer("bob"))

    async with http.ws_connect(f"{cluster.url}/ws", protocols=[V1, f"ticket.{ticket}"]) as socket:
        assert socket.protocol == V1
        assert (await socket.receive_json(timeout=5))["type"] == "hello"
        async with http.post(
            f"{cluster.url}/v1/images/generations", json=ORDER, headers={**bearer("bob"), "Prefer": "respond-async"}
        ) as response:
            image = await response.json()
        frame = await socket.receive_json(timeout=5)
        assert (frame["type"], frame["subject"]) == ("image.queued", image["id"])
    assert await refused(http, cluster, protocols=[V1, f"ticket.{ticket}"]) == 401, "a ticket is valid once"


async def test_of_many_callers_with_one_ticket_one_is_admitted(http, cluster):
    ticket = await ticket_of(http, cluster, bearer())

    async def connect() -> int:
        try:
            socket = await http.ws_connect(f"{cluster.url}/ws", protocols=[V1, f"ticket.{ticket}"])
        except aiohttp.WSServerHandshakeError as error:
            return error.status
        await socket.close()
        return 101

    statuses = await asyncio.gather(*(connect() for _ in range(20)))

    assert sorted(statuses) == [101] + [401] * 19


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"protocols": [V1]},
        {"protocols": [V1, "ticket."]},
        {"protocols": [V1, "ticket.made-up"]},
        {"protocols": [V1, "ticket.a", "ticket.b"]},
        {"headers": bearer(exp=int(time.time()) - 3600)},
        {"headers": {"Authorization": "Bearer "}},
    ],
    ids=["nothing", "no ticket", "an empty one", "a made-up one", "two", "an expired token", "an empty token"],
)
@pytest.mark.fault(row=66)
async def test_no_websocket_opens_without_credentials(http, cluster, more):
    assert await refused(http, cluster, **more) == 401


@pytest.mark.fault(row=66)
async def test_a_token_in_the_query_opens_nothing_and_is_not_logged(http, cluster):
    token = callers.token()

    assert await refused(http, cluster, params={"token": token, "access_token": token, "ticket": token}) == 401
    assert token not in cluster.services["up"].log


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", "http://127.0.0.1.evil.example.org", "http://["]
)
@pytest.mark.fault(row=66)
async def test_a_foreign_page_opens_no_websocket_even_with_a_token(http, cluster, origin):
    assert await refused(http, cluster, headers={**bearer(), "Origin": origin}) == 403


@pytest.mark.fault(row=66)
async def test_our_own_page_and_an_allowed_origin_open_it(http, cluster):
    for origin in (cluster.url, "https://app.example.org"):
        async with http.ws_connect(f"{cluster.url}/ws", headers={**bearer(), "Origin": origin}) as socket:
            assert (await socket.receive_json(timeout=5))["type"] == "hello"


@pytest.mark.fault(row=66)
async def test_a_token_that_expires_closes_its_websocket(tmp_path, http):
    async with (
        inference_double() as inference,
        embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url, **callers.settings_of(), JWT_LEEWAY="0") as cluster,
    ):
        soon = bearer(exp=int(time.time()) + 2)
        ticket = await ticket_of(http, cluster, soon)
        by_header = await http.ws_connect(f"{cluster.url}/ws", headers=soon)
        by_ticket = await http.ws_connect(f"{cluster.url}/ws", protocols=[V1, f"ticket.{ticket}"])

        assert await closed_with(by_header) == 4401
        assert await closed_with(by_ticket) == 4401


async def test_a_key_that_expires_closes_its_websocket(http, cluster):
    async with SqliteStore.open(cluster.folder / "darkroom.db", timeout_s=5) as store:
        expires_at = SystemClock().now() + timedelta(seconds=2)
        key = await ApiKeyStore(store, SystemClock()).create("ada", expires_at=expires_at)

    socket = await http.ws_connect(f"{cluster.url}/ws", headers={"Authorization": f"Bearer {key}"})

    assert await closed_with(socket) == 4401


@pytest.mark.fault(row=64)
async def test_a_flood_and_a_huge_frame_are_closed(http, cluster):
    flooding = await http.ws_connect(f"{cluster.url}/ws", headers=bearer())
    huge = await http.ws_connect(f"{cluster.url}/ws", headers=bearer())
    binary = await http.ws_connect(f"{cluster.url}/ws", headers=bearer())

    async def flood() -> None:
        for _ in range(20_000):
            await flooding.send_str("hello")

    with suppress(ConnectionError, aiohttp.ClientError):
        await flood()
    await huge.send_str("x" * 5000)
    await binary.send_bytes(b"x")

    assert await closed_with(flooding) in {1008, 1006}, "1006 where the rest of the flood met a closed connection"
    assert await closed_with(huge) == 1009
    assert await closed_with(binary) == 1008


@pytest.mark.fault(row=64)
async def test_an_owner_has_ten_websockets_and_no_more(http, cluster):
    async def connect(owner: str) -> aiohttp.ClientWebSocketResponse | int:
        try:
            return await http.ws_connect(f"{cluster.url}/ws", headers=bearer(owner))
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    came = await asyncio.gather(*(connect("cleo") for _ in range(50)))
    other = await connect("dora")

    sockets = [each for each in came if not isinstance(each, int)]
    assert (len(sockets), set(came) - set(sockets)) == (10, {429})
    assert not isinstance(other, int), "another owner has ten of its own"
    await sockets[0].close()
    async with asyncio.timeout(30):
        while isinstance(again := await connect("cleo"), int):
            pass
    assert (await again.receive_json(timeout=5))["type"] == "hello"


async def test_a_plain_get_gets_not_a_websocket(http, cluster):
    async with http.get(f"{cluster.url}/ws", headers=bearer()) as response:
        assert (response.status, (await response.json())["code"]) == (400, "not_a_websocket")
