"""An HTTP proxy before an object store, which answers requests with the errors of S3.

async with proxy_before_store(bucket) as (proxy, bucket):
    proxy.errors += [SLOW_DOWN] * 2
"""

import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp import web
from yarl import URL

from tests.servers.object_store import Bucket

MAX_SKEW = timedelta(minutes=15)  # of S3
SLOW_DOWN = 503, "SlowDown"
_HOP = {"transfer-encoding", "connection", "content-length", "content-encoding", "date", "server"}


@dataclass
class ObjectProxy:
    """`errors` answer the next requests; `always` all of them; `ahead` is by how much the clock there is ahead."""

    target: str
    errors: deque[tuple[int, str]] = field(default_factory=deque)
    always: tuple[int, str] | None = None
    ahead: timedelta = timedelta(0)
    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path))
        error = self.errors.popleft() if self.errors else self.always
        if error is None and abs(self._skew(request)) > MAX_SKEW:
            error = 403, "RequestTimeTooSkewed"
        body = await request.read()
        if error is not None:
            status, code = error
            text = f"<Error><Code>{code}</Code><Message>no</Message></Error>" if request.method != "HEAD" else None
            return web.Response(status=status, text=text, content_type="application/xml")
        url = URL(self.target + request.raw_path, encoded=True)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as http,
            http.request(request.method, url, headers=request.headers, data=body, allow_redirects=False) as answer,
        ):
            headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            response = web.Response(status=answer.status, headers=headers, body=await answer.read())
            if request.method == "HEAD":
                response.content_length = int(answer.headers.get("Content-Length", 0))
            return response

    def _skew(self, request: web.Request) -> timedelta:
        signed = request.headers.get("x-amz-date") or request.query.get("X-Amz-Date")
        if signed is None or not re.fullmatch(r"\d{8}T\d{6}Z", signed):
            return timedelta(0)
        there = datetime.now(UTC) + self.ahead
        return there - datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@asynccontextmanager
async def proxy_before_store(bucket: Bucket) -> AsyncIterator[tuple[ObjectProxy, Bucket]]:
    """The proxy, with the bucket as it is reached through it."""
    proxy = ObjectProxy(bucket.endpoint)
    app = web.Application(client_max_size=100_000_000)
    app.router.add_route("*", "/{path:.*}", proxy.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.port = runner.addresses[0][1]
        yield proxy, replace(bucket, endpoint=f"http://127.0.0.1:{proxy.port}")
    finally:
        await runner.cleanup()
