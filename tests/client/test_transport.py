"""Real connections of both clients: redirects, credentials, limits, broken answers."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from darkroom_client import AsyncDarkroom, Darkroom, DarkroomError, Image, Redirected, Retries, UnexpectedAnswer
from darkroom_client.files import write_file
from tests.inference_double import picture

ONCE = Retries(delays_s=())
Use = Callable[[str, str], Coroutine[Any, Any, Any]]


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
    async def running(cls):
        seen, app = cls(), web.Application()
        app.router.add_route("*", "/{path:.*}", seen.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        seen.url = "http://{}:{}".format(*runner.addresses[0][:2])
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


async def use_async(url: str, what: str, *arguments) -> Any:
    async with AsyncDarkroom(url, token="secret", headers={"X-Key": "k"}, retries=ONCE, trust_env=False) as darkroom:
        found = getattr(darkroom, what)(*arguments)
        return await (anext(found) if what == "listen" else found)


async def use_sync(url: str, what: str, *arguments) -> Any:
    def use() -> Any:
        with Darkroom(url, token="secret", headers={"X-Key": "k"}, retries=ONCE, trust_env=False) as darkroom:
            found = getattr(darkroom, what)(*arguments)
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


async def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "a.png").write_bytes(b"older")
    with pytest.raises(TypeError):
        write_file(tmp_path / "a.png", "no bytes")  # type: ignore[arg-type]

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"older")]
