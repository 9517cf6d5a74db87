"""What one owner can hold open is bounded: a request ends with its client."""

import asyncio
import json
import socket
import struct
import time
from functools import partial

import aiohttp
import pytest

from common.domain import transitions
from common.domain.errors import Unavailable
from common.store.port import change
from tests.borders.http.conftest import CLOCK, ORDERS
from tests.cluster import ORDER
from tests.waiting import until

pytestmark = pytest.mark.border(rule="D1")
BODY = json.dumps(ORDER).encode()
POST = [f"POST {ORDERS} HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(BODY)}"]


class ReadCounter:
    """Counts the reads of single images; `is_away` makes each of them fail."""

    def __init__(self, store):
        self._store = store
        self.reads = 0
        self.is_away = False

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def get(self, image_id):
        self.reads += 1
        if self.is_away:
            raise Unavailable("store")
        return await self._store.get(image_id)


class Wrapped:
    """Keeps the store that an api was given."""

    store: ReadCounter

    def __call__(self, store):
        self.store = ReadCounter(store)
        return self.store


def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """As a client that was killed, or a proxy that gives up."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def send_more(writer: asyncio.StreamWriter) -> None:
    """Leaves behind the head of another request."""
    writer.write(b"GET / HTTP/1.1\r\nHost: 127")
    writer.close()


@pytest.mark.long_unless("headers0-leave", "headers4-reset")
@pytest.mark.parametrize(
    ("headers", "end"),
    [
        ([], leave),
        ([], reset),
        ([], send_more),
        (["Prefer: wait=600"], leave),
        (["Prefer: wait=600"], reset),
        (["Idempotency-Key: one-for-all"], leave),
        (["Idempotency-Key: one-for-all"], reset),
        (["Prefer: handling=lenient"], leave),
    ],
)
async def test_a_wait_ends_when_its_client_disconnects(serve, headers, end):
    """200 clients request an image and leave at once; each image is on record, and no handler is left."""
    async with serve() as api:
        before = await api.counted(499)
        for _ in range(200):
            _, writer = await api.send(*POST, *headers, body=BODY)
            end(writer)

        async def have_ended():
            return await api.counted(499) - before == 200

        await until(have_ended)
        _, _, page = await api.ask("GET", "/api/images/history/?status=queued")
        assert page["total"] == (1 if "Idempotency-Key: one-for-all" in headers else 200)


async def test_requests_that_wait_for_one_image_share_its_reads(serve):
    wrapped = Wrapped()
    async with serve(wrap=wrapped, POLL_INTERVAL="0.2") as api:
        key = {"Idempotency-Key": "one"}
        _, _, image = await api.ask("POST", ORDERS, json=ORDER, headers={**key, "Prefer": "respond-async"})
        waiting = [asyncio.create_task(api.ask("POST", ORDERS, json=ORDER, headers=key)) for _ in range(100)]
        before = wrapped.store.reads
        await until(lambda: wrapped.store.reads > before + 5)
        started_s, reads = time.monotonic(), wrapped.store.reads
        await until(lambda: wrapped.store.reads > reads + 5)
        assert wrapped.store.reads - reads < 5 + 10 * (time.monotonic() - started_s)

        await change(api.store, image["id"], partial(transitions.cancel, now=CLOCK.now()))
        answers = await asyncio.gather(*waiting)

    assert {(status, body["image"]["id"]) for status, _, body in answers} == {(409, image["id"])}


async def test_an_owner_has_a_bounded_number_of_waits(serve):
    """Of three requests that wait two are served; the third has no effect, and one that need not wait is accepted."""
    async with serve(REQUESTS_WAITING="2") as api:
        waiting = [asyncio.create_task(api.ask("POST", ORDERS, json=ORDER)) for _ in range(2)]

        async def recorded():
            return (await api.ask("GET", "/api/images/history/?status=queued"))[2]["total"] == 2

        await until(recorded)
        status, headers, problem = await api.ask("POST", ORDERS, json=ORDER)
        assert (status, problem["code"], headers["Retry-After"]) == (429, "wait_limit", "5")
        assert await recorded(), "the refused request recorded nothing"
        assert (await api.ask("POST", ORDERS, json=ORDER, headers={"Prefer": "respond-async"}))[0] == 202
        assert (await api.ask("POST", ORDERS, json=ORDER, headers={"Prefer": "wait=0"}))[0] == 202
        for task in waiting:
            task.cancel()

        async def is_free():
            return (await api.ask("POST", ORDERS, json=ORDER, headers={"Prefer": "wait=1"}))[0] == 202

        await until(is_free)


async def test_a_wait_is_bounded_while_the_store_is_away(serve):
    wrapped = Wrapped()
    async with serve(wrap=wrapped, POLL_INTERVAL="0.2") as api:
        asking = asyncio.create_task(api.ask("POST", ORDERS, json=ORDER, headers={"Prefer": "wait=2"}))
        await until(lambda: wrapped.store.reads)
        wrapped.store.is_away = True
        status, headers, image = await asyncio.wait_for(asking, 8)

    assert (status, image["status"], headers["Preference-Applied"]) == (202, "queued", "wait=2")


async def test_a_stop_is_bounded_while_the_store_is_away(serve):
    wrapped = Wrapped()
    async with serve(wrap=wrapped, POLL_INTERVAL="0.2") as api:
        asking = asyncio.create_task(api.ask("POST", ORDERS, json=ORDER))
        await until(lambda: wrapped.store.reads)
        wrapped.store.is_away = True
        stopped_s = time.monotonic()
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{api.url}/ws"):
            pass
    status, _, image = await asking

    assert (status, image["status"]) == (202, "queued")
    assert time.monotonic() - stopped_s < 4, "the grace period of 5 s was not used up"


async def test_pings_of_a_websocket_are_bounded(serve):
    async with serve() as api, api.http.ws_connect(f"{api.url}/ws", autoping=False) as websocket:
        for _ in range(50):
            await websocket.ping(b"x")
        answers = [await websocket.receive(5) for _ in range(51)]
        assert [each.type for each in answers].count(aiohttp.WSMsgType.PONG) == 50
        for _ in range(50):
            await websocket.ping(b"x")
        async with asyncio.timeout(30):
            while (message := await websocket.receive()).type is aiohttp.WSMsgType.PONG:
                pass

    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 5000\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"],
    ids=["a length", "chunks"],
)
async def test_a_client_that_leaves_in_its_upload_is_no_error(serve, caplog, body):
    async with serve() as api:
        before = await api.counted(499)
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"POST {ORDERS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode() + body)
        await writer.drain()
        writer.close()

        async def is_counted():
            return await api.counted(499) == before + 1

        await until(is_counted)

    assert not [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
