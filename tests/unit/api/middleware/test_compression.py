"""Compressed answers: JSON of a size that is worth it, for clients that accept gzip."""

import gzip

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.api.middleware.compression import compressed

SIZES = {"small": 1_399, "page": 17_000, "pictures": 65_537}


@pytest.fixture
async def client():
    async def answer(request):
        size = SIZES[request.match_info["size"]]
        content_type = request.query.get("type", "application/json")
        return compressed(request, web.Response(text="x" * size, content_type=content_type))

    app = web.Application()
    app.router.add_get("/{size}", answer)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "accepted", "is_compressed", "varies"),
    [
        ("/page", "gzip, deflate", True, True),
        ("/page", "br, GZIP;q=0.5", True, True),
        ("/page", "deflate", False, True),
        ("/page", "gzip;q=0", False, True),
        ("/page", "", False, True),
        ("/small", "gzip", False, False),
        ("/pictures", "gzip", False, False),
        ("/page?type=image/png", "gzip", False, False),
        ("/page?type=text/event-stream", "gzip", False, False),
    ],
)
async def test_an_answer_is_compressed_where_it_is_worth_it(client, path, accepted, is_compressed, varies):
    response = await client.get(path, headers={"Accept-Encoding": accepted})
    body = await response.read()

    assert ("Content-Encoding" in response.headers) is is_compressed
    assert (gzip.decompress(body) if is_compressed else body) == b"x" * SIZES[path[1:].partition("?")[0]]
    assert int(response.headers["Content-Length"]) == len(body)
    assert response.headers.get("Vary") == ("Accept-Encoding" if varies else None)


async def test_head_tells_the_same_as_get(client):
    asked = {"Accept-Encoding": "gzip"}
    head, get = await client.head("/page", headers=asked), await client.get("/page", headers=asked)

    assert head.headers["Content-Length"] == get.headers["Content-Length"]
    assert await head.read() == b""
