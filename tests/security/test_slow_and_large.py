"""Requests that are too large or too slow are refused; good requests are served meanwhile."""

import asyncio
import gzip
import json
import re
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.cluster import ORDER, embedded, front_end
from tests.inference_double import inference_double

ORDERS = "/v1/images/generations"
HEAD = b"POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory):
    async with (
        inference_double() as inference,
        embedded(
            tmp_path_factory.mktemp("slow"), INFERENCE_SERVICE_URL=inference.url, BODY_TIMEOUT="1", IDLE_TIMEOUT="2"
        ) as cluster,
    ):
        yield cluster


async def open_and_send(cluster, piece: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.api_port)
    writer.write(piece)
    return reader, writer


async def send_and_read(cluster, piece: bytes) -> bytes:
    """Send, wait until the server has closed the connection, return everything it sent."""
    return await read_all(*await open_and_send(cluster, piece))


async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.fault(row=56)
@pytest.mark.long
async def test_slow_senders_are_cut_off_and_harm_nobody(cluster):
    """1,000 half heads and 100 half bodies during a good request: all are closed in time."""
    body = HEAD + b'Content-Length: 60000\r\n\r\n{"prompt":'
    half_heads = await asyncio.gather(*(open_and_send(cluster, HEAD) for _ in range(1000)))
    half_bodies = await asyncio.gather(*(open_and_send(cluster, body) for _ in range(100)))

    async with front_end(cluster.url) as page:
        status, _ = await page.post(ORDERS, ORDER)
    said = await asyncio.gather(*(read_all(*each) for each in half_heads))
    answers = await asyncio.gather(*(read_all(*each) for each in half_bodies))

    assert status == 201, "a good request is served meanwhile"
    assert set(said) == {b""}
    assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 408 Request Timeout"}


@pytest.mark.fault(row=67)
async def test_a_client_that_disconnects_in_its_post_loses_nothing(cluster):
    """The request is complete, the client is gone before the answer: the image is painted all the same."""
    body = json.dumps({**ORDER, "prompt": "a client that disconnects"}).encode()
    async with front_end(cluster.url) as page, page.socket() as events:
        _, writer = await open_and_send(cluster, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.transport.abort()

        queued = await events.next()
        frames = await events.until_final(queued["subject"])

    assert (queued["type"], queued["data"]["prompt"]) == ("image.queued", "a client that disconnects")
    assert frames[-1]["type"] == "image.completed"


@pytest.mark.fault(row=56)
async def test_a_dripping_head_is_cut_off(cluster):
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.api_port)

    async def drip() -> None:
        writer.write(HEAD)
        while True:
            writer.write(b"X-More: 1\r\n")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    dripping.cancel()
    writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (HEAD + b"Content-Length: 131073\r\n\r\n" + b" " * 131_073, 413),
        (HEAD + b"Content-Length: 10000000\r\n\r\n" + b" " * 100_000, 413),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b" " * 0x8000 + b"\r\n", 408),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 5, 413),
        (HEAD + b"X-Large: " + b"x" * 9000 + b"\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"X-Line: a\rb\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not http at all\r\n\r\n", 400),
        (
            b"GET /api/limits/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 140000\r\n\r\n" + b" " * 140_000,
            413,
        ),
    ],
    ids=[
        "body of 128 KiB and 1",
        "body of 10 MB",
        "chunks without an end",
        "chunks too many",
        "header of 9 kB",
        "path of 9 kB",
        "200 headers",
        "two lengths",
        "length and chunks",
        "bare CR",
        "TLS",
        "body where none is taken",
    ],
)
@pytest.mark.fault(row=57)
async def test_requests_too_large_or_not_http_are_refused(cluster, request_bytes, status):
    said = await send_and_read(cluster, request_bytes)

    assert re.match(rb"HTTP/1.[01] %d " % status, said) or (status == 413 and said == b""), said[:200]
    assert b"Traceback" not in said
    assert "Traceback" not in cluster.services["up"].log


async def test_a_packed_body_is_not_unpacked(cluster):
    packed = gzip.compress(b'{"prompt": "' + b"a" * 30_000_000 + b'"}')

    said = await send_and_read(
        cluster,
        HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed,
    )

    assert said.startswith(b"HTTP/1.1 415 ")
