import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common.domain.errors import Denied, Misconfigured
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from services.generator.inference.connect import connect_inference


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8001",
        "ftp://secret@host/",
        "",
        "nope+http://secret@host",
        "sdapi+http://",
        "cog+http://secret@host:x",
        "cog+http://host?concurrency=0",
        "sdapi+http://host?secret=x",
        "openai+http://host?server=secret",
    ],
)
async def test_an_unknown_scheme_is_refused_without_the_url(url):
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Misconfigured, match="INFERENCE_SERVICE_URL") as raised:
            connect_inference(url, http=http, settings=read_settings({}), clock=SystemClock())

    assert "secret" not in raised.value.detail


@pytest.mark.parametrize("scheme", ["http", "comfyui+http", "sdapi+http", "cog+http", "openai+http"])
async def test_a_user_in_the_url_and_a_key_are_refused(scheme):
    """Only one of them can be sent; aiohttp raises a ValueError for two."""
    settings = read_settings({"INFERENCE_SERVICE_API_KEY": "secret-key"})
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Misconfigured, match="INFERENCE_SERVICE_API_KEY") as raised:
            connect_inference(f"{scheme}://user:secret@host", http=http, settings=settings, clock=SystemClock())

    assert "secret" not in raised.value.detail


@pytest.mark.parametrize("scheme", ["http", "comfyui+http", "sdapi+http", "cog+http", "openai+http"])
async def test_the_user_of_the_url_is_sent(scheme):
    """Every dialect sends it, as Basic authentication."""
    given = set()

    async def answer(request):
        given.add(request.headers.get("Authorization"))
        return web.Response(status=401)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        url = f"{scheme}://user:pass@{server.host}:{server.port}"
        backend = connect_inference(url, http=http, settings=read_settings({}), clock=SystemClock())
        with pytest.raises(Denied):
            await backend.capabilities()

    assert given == {"Basic dXNlcjpwYXNz"}
