"""Behind a proxy that serves the api below a path, every URL that the api gives leads back through the proxy."""

import json
from urllib.parse import urljoin

import aiohttp
import pytest

from tests.borders.http.conftest import ORDERS
from tests.cluster import ORDER, embedded
from tests.inference_double import inference_double

pytestmark = pytest.mark.border(rule="D4")
URL = "https://draw.example.org/draw/"


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.mark.long_unless("a proxy strips")
@pytest.mark.parametrize("path", ["/draw/", "/"], ids=["a proxy passes the path on", "a proxy strips the path"])
async def test_every_url_leads_back_through_the_proxy(tmp_path, http, path):
    """The page and its files, an image with a websocket, its Location and its files, the documentation."""
    async with (
        inference_double() as inference,
        embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url, PUBLIC_URL=URL) as cluster,
    ):
        url = cluster.url + path

        async def get(path: str) -> tuple[str, str]:
            async with http.get(urljoin(url, path)) as response:
                assert response.status == 200, (path, await response.text())
                return await response.text(errors="replace"), response.headers.get("ETag", "")

        page, etag = await get("")
        assert '<base href="/draw/" />' in page
        assert etag
        files = [part.split('"')[0] for part in page.replace("src=", "href=").split('href="')[2:]]
        assert len(files) > 10
        for name in files:
            assert not name.startswith("/")
            await get(name)
        docs, _ = await get("docs")
        for name in ("docs/start.js", "docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "openapi.json"):
            await get(name)
        assert '<base href="/draw/" />' in docs
        assert json.loads((await get("openapi.json"))[0])["servers"] == [{"url": URL.rstrip("/")}]

        origin = {"Origin": "https://draw.example.org", "Host": "draw.example.org"}
        async with http.ws_connect(urljoin(url, "ws"), headers=origin) as socket:
            assert (await socket.receive_json(timeout=5))["type"] == "hello"
            async with http.post(urljoin(url, ORDERS[1:]), json=ORDER, headers=origin) as response:
                assert response.status == 201
                image, location = await response.json(), response.headers["Location"]
            frames: list[dict] = []
            while not frames or frames[-1]["type"] != "image.completed":
                frames.append(await socket.receive_json(timeout=10))
        assert json.loads((await get(location))[0])["id"] == image["id"]
        shown = (await http.get(urljoin(url, "api/images/history/"))).json()
        for view in (image, frames[-1]["data"], (await shown)["images"][0]):
            assert view["imageUrl"].startswith("/draw/media/")
            await get(view["imageUrl"])
            await get(view["thumbnailUrl"])


@pytest.mark.parametrize("media_url", ["/media/", "/draw/media/", "https://cdn.example.org/"])
async def test_media_urls_have_the_path_once(serve, media_url):
    async with serve(PUBLIC_URL="https://host/draw/", MEDIA_URL=media_url, ALLOWED_HOSTS="127.0.0.1") as api:
        status, headers, image = await api.ask("POST", ORDERS, json=ORDER, headers={"Prefer": "respond-async"})
        for path in (headers["Location"], headers["Location"].removeprefix("/draw"), "/draw", "/draw/", "/draw/docs/"):
            assert (await api.ask("GET", path))[0] == 200, path

    assert (status, headers["Location"]) == (202, f"/draw/api/images/{image['id']}/")


@pytest.mark.parametrize("path", ["/", "/draw/", "/draw/x"])
async def test_without_a_public_url_nothing_is_served_below_a_path(serve, path):
    async with serve() as api:
        assert (await api.ask("GET", path))[0] == (200 if path == "/" else 404)
        async with api.http.get(api.url) as response:
            assert '<base href="/" />' in await response.text()
