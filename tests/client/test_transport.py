"""Real connections of both clients: redirects, credentials, limits, broken answers."""

import asyncio
import os
import ssl
import traceback
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from darkroom_client import (
    AsyncDarkroom,
    Darkroom,
    DarkroomError,
    Image,
    Misconfigured,
    NoAnswer,
    Redirected,
    Retries,
    StillWaiting,
    TlsFailed,
    UnexpectedAnswer,
)
from darkroom_client import orders as client_orders
from darkroom_client.effects import Send
from darkroom_client.files import write_file
from tests.inference_double import picture
from tests.servers.proxies import Certificate
from tests.waiting import LIMIT_S

ONCE = Retries(delays_s=(), never=(NoAnswer,))  # a thread that listens for ever could not be ended
OPTIONS: dict[str, Any] = {
    "token": "secret",
    "headers": {"X-Key": "k"},
    "retries": ONCE,
    "trust_env": False,
    "handshake_s": 60.0,
}


class Seen:
    """A server that keeps the credentials of all requests, and answers with `route`."""

    def __init__(self) -> None:
        self.url = ""
        self.credentials: list[tuple[str, str | None]] = []
        self.route: Callable[[web.Request], web.StreamResponse] = lambda request: web.Response(status=404)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.credentials.append((request.path, request.headers.get("Authorization") or request.headers.get("X-Key")))
        return self.route(request)

    @classmethod
    @asynccontextmanager
    async def running(cls, tls: ssl.SSLContext | None = None):
        seen, app = cls(), web.Application()
        app.router.add_route("*", "/{path:.*}", seen.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        seen.url = "{}://{}:{}".format("https" if tls else "http", *runner.addresses[0][:2])
        try:
            yield seen
        finally:
            await runner.cleanup()


@pytest.fixture
async def own():
    async with Seen.running() as seen:
        yield seen


@pytest.fixture
async def other():
    async with Seen.running() as seen:
        seen.route = lambda request: web.Response(body=picture(), content_type="image/png")
        yield seen


async def use_async(url: str, what: str, *arguments, **options) -> Any:
    async with AsyncDarkroom(url, **OPTIONS) as darkroom:
        found = getattr(darkroom, what)(*arguments, **options)
        return await (anext(found) if what == "listen" else found)


async def use_sync(url: str, what: str, *arguments, **options) -> Any:
    def use() -> Any:
        with Darkroom(url, **OPTIONS) as darkroom:
            found = getattr(darkroom, what)(*arguments, **options)
            return next(found) if what == "listen" else found

    return await asyncio.to_thread(use)


BOTH = pytest.mark.parametrize("use", [use_async, use_sync])
DONE = Image.model_validate({"id": "a", "status": "completed", "imageUrl": "/media/a.png"})


@BOTH
async def test_a_redirected_picture_gets_no_credential(own, other, use):
    own.route = lambda request: web.Response(status=302, headers={"Location": f"{other.url}/b.png"})

    assert await use(own.url, "download", DONE) == picture()
    assert own.credentials == [("/media/a.png", "Bearer secret")]
    assert other.credentials == [("/b.png", None)]


@BOTH
async def test_a_picture_on_another_host_gets_no_credential(own, other, use):
    image = DONE.model_copy(update={"image_url": f"{other.url}/b.png"})

    assert await use(own.url, "download", image) == picture()
    assert (own.credentials, other.credentials) == ([], [("/b.png", None)])


@BOTH
@pytest.mark.parametrize("what", ["models", "listen"])
async def test_a_redirected_route_is_an_error(own, other, use, what):
    """Also that of the websocket."""
    target = other.url if what == "models" else other.url.replace("http", "ws")
    own.route = lambda request: web.Response(status=307, headers={"Location": f"{target}/x"})

    with pytest.raises(Redirected):
        await use(own.url, what)

    assert [credential for _, credential in own.credentials] == ["Bearer secret"]
    assert other.credentials == []


@BOTH
async def test_cookies_of_another_host_stay_there(own, other, use):
    own.route = lambda request: web.Response(
        status=302, headers={"Location": f"{other.url}/b.png", "Set-Cookie": "a=b"}
    )
    cookies = []

    def route(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        return web.Response(body=picture(), content_type="image/png")

    other.route = route
    await use(own.url.replace("127.0.0.1", "localhost"), "download", DONE)

    assert cookies == [None]


@BOTH
async def test_an_answer_without_an_end_is_given_up(own, use):
    own.route = lambda request: web.Response(body=b"x" * 17_000_000)

    with pytest.raises(UnexpectedAnswer, match="more than 16000000 bytes"):
        await use(own.url, "models")


@BOTH
async def test_a_handshake_that_is_a_page_is_an_error(own, use):
    own.route = lambda request: web.Response(text="<html>", content_type="text/html")

    with pytest.raises(DarkroomError):
        await use(own.url, "listen")


@BOTH
async def test_trusted_certificates_count_for_http_and_websockets(use, tmp_path, monkeypatch):
    """SSL_CERT_FILE counts without the proxies of the environment, and for both kinds of connections."""
    certificate = Certificate.made(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.path, certificate.key)
    async with Seen.running(tls) as secure:
        secure.route = lambda request: web.json_response({"code": "no", "detail": "not now"}, status=403)
        for what in ("models", "listen"):
            with pytest.raises(TlsFailed):
                await use(secure.url, what)
        assert secure.credentials == []

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        for what in ("models", "listen"):
            with pytest.raises(DarkroomError, match="not now"):
                await use(secure.url, what)

    assert [path for path, _ in secure.credentials] == ["/api/models/", "/ws"]


@BOTH
async def test_a_server_that_accepts_and_never_answers_holds_nobody(use, monkeypatch):
    """`generate` with a limit of 0.2 s ends with it, not after the 30 s of a read."""
    monkeypatch.setattr(client_orders, "SPARE_S", 0.1)
    released = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StillWaiting) as caught:
            async with asyncio.timeout(5):
                await use(f"http://127.0.0.1:{port}", "generate", "a lighthouse", timeout_s=0.2)
        released.set()

    assert caught.value.image is None


@BOTH
async def test_a_websocket_that_stops_within_tls_is_given_up(use, tmp_path, monkeypatch):
    """Half a record of TLS arrives, then nothing: a reader that blocks in it would hold the call for ever."""
    certificate = Certificate.made(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    monkeypatch.setitem(OPTIONS, "handshake_s", 0.5)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.path, certificate.key)
    released = asyncio.Event()

    async def half_a_record(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03")
        await released.wait()
        writer.close()

    async with await asyncio.start_server(half_a_record, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoAnswer):
            async with asyncio.timeout(LIMIT_S):
                await use(f"https://127.0.0.1:{port}", "listen")
        released.set()


@pytest.mark.parametrize("client", [AsyncDarkroom, Darkroom])
async def test_a_header_that_the_library_refuses_is_not_shown(own, client):
    """Neither in the error nor in its causes."""
    request = Send("GET", f"{own.url}/", {"Authorization": "Bearer secret\n"}, 1000, 1.0)

    def operation():
        yield request

    async def call(method: Callable[..., Any], *arguments: Any) -> Any:
        return await (method(*arguments) if client is AsyncDarkroom else asyncio.to_thread(method, *arguments))

    darkroom = client(own.url, trust_env=False)
    with pytest.raises(Misconfigured) as caught:
        await call(darkroom._transport.run, operation())
    await call(darkroom.close)

    assert caught.value.code == "invalid_header"
    assert "secret" not in "".join(traceback.format_exception(caught.value, limit=0))
    assert own.credentials == []


async def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "a.png").write_bytes(b"older")
    with pytest.raises(TypeError):
        write_file(tmp_path / "a.png", "no bytes")  # type: ignore[arg-type]

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"older")]
