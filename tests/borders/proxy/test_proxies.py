"""Darkroom behind real proxies, as docs/proxies.md describes them: TLS, a path of its own, the websocket."""

import asyncio
import os
import re
import ssl
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect
from yarl import URL

from common.runtime.settings import Settings
from services.generator.metadata import separate
from tests.browser.inference_stub import InferenceStub
from tests.browser.visit import Visit, is_painted
from tests.cluster import Cluster, embedded
from tests.inference_double import Inference, inference_double, picture
from tests.servers import proxies
from tests.servers.chromium import PATIENCE_MS, launched
from tests.servers.process import free_ports

pytestmark = [pytest.mark.border(rule="D4"), pytest.mark.browser, pytest.mark.long]

in_module = pytest.mark.asyncio(loop_scope="module")  # one server and one proxy for all tests of a place
PLACES = [(name, place) for name in ("nginx", "caddy") for place in ("stripped", "kept", "root")]


@dataclass
class Site:
    """A server behind a proxy."""

    url: str  # ends with a slash
    cluster: Cluster
    inference: Inference
    certificate: proxies.Certificate

    @property
    def path(self) -> str:
        return "/" + self.url.split("/", 3)[3]

    @asynccontextmanager
    async def client(self):
        trusted = ssl.create_default_context(cafile=str(self.certificate.path))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as http:
            yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=PLACES, ids="-".join)
async def site(request, tmp_path_factory):
    name, place = request.param
    if proxies.find(name) is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no {name}: scripts/get-test-servers.sh installs it")
    folder = tmp_path_factory.mktemp("site")
    certificate = proxies.Certificate.made(folder)
    (port,) = free_ports(1)
    url = f"https://localhost:{port}/" + ("" if place == "root" else "draw/")
    settings = {} if place == "root" else {"PUBLIC_URL": url}
    async with (
        inference_double() as inference,
        embedded(folder, INFERENCE_SERVICE_URL=inference.url, TRUSTED_PROXIES="127.0.0.1", **settings) as cluster,
    ):
        with proxies.proxy(name, place, folder, port=port, api_port=cluster.api_port, certificate=certificate):
            yield Site(url, cluster, inference, certificate)


@in_module
async def test_a_picture_is_requested_and_opened_behind_a_proxy(site):
    """The page, its websocket and the pictures stay below the URL of the proxy: `Visit` reports any other request."""
    async with launched("--ignore-certificate-errors") as browser:
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        site.inference.will(stub := InferenceStub())
        visit = await Visit(page, site.url).open()

        card = await visit.order("a picture behind a proxy")
        stub.step(3, 4)
        await expect(card).to_contain_text("step 3 of 4")
        stub.finish()
        await expect(card.locator("img")).to_be_visible()
        await page.reload()
        await visit.tile("a picture behind a proxy").click()
        await expect(visit.viewer.locator("img").last).to_be_visible()
        assert await is_painted(visit.viewer.locator("img").last)

        assert {socket.partition("?")[0] for socket in sockets} == {f"{site.url}ws".replace("https:", "wss:")}
        # another Darkroom on this host, below another path, must not find the token
        stored = await page.evaluate("[...Object.keys(sessionStorage), ...Object.keys(localStorage)]")
        assert {key.rpartition("darkroom.")[0] for key in stored} == {"" if site.path == "/" else f"{site.path} "}
        await page.goto(f"{site.url}docs")
        await expect(page.get_by_text("/v1/images/generations").first).to_be_visible()
        assert visit.complaints == []


@in_module
async def test_urls_in_answers_lead_through_the_proxy(site):
    async with site.client() as http:
        async with http.post(f"{site.url}v1/images/generations", json={"prompt": "a lighthouse"}) as response:
            assert response.status == 201
            location = response.headers["Location"]
            image = await response.json()
        for target in (location, image["imageUrl"], image["thumbnailUrl"]):
            joined = response.url.join(URL(target))
            assert str(joined).startswith(site.url)
            async with http.get(joined) as response:
                assert response.status == 200
        async with http.get(f"{site.url}openapi.json") as response:
            servers = (await response.json()).get("servers", [{"url": "/"}])
            called = response.url.join(URL(servers[0]["url"]))
        assert str(called).rstrip("/") == site.url.rstrip("/")


@in_module
async def test_a_path_without_its_slash_leads_to_the_page(site):
    async with site.client() as http, http.get(site.url.rstrip("/")) as response:
        assert (response.status, response.url) == (200, URL(site.url))
        assert "<title>Darkroom</title>" in await response.text()


@in_module
async def test_other_sites_are_refused_behind_a_proxy_too(site):
    """The proxy passes the Host header on, so the api can compare it with the Origin of the page."""
    async with site.client() as http:
        for origin, expected in ((site.url.removesuffix(site.path), 202), ("https://evil.example", 403)):
            headers = {"Origin": origin, "Prefer": "respond-async"}
            async with http.post(f"{site.url}v1/images/generations", json={"prompt": "a"}, headers=headers) as response:
                assert response.status == expected


@in_module
async def test_requests_over_the_size_limit_get_a_problem(site):
    async with site.client() as http:
        url = f"{site.url}v1/images/generations"
        prompts = {"prompt": "灯" * 4000, "negativePrompt": "台" * 4000}
        async with http.post(url, json=prompts, headers={"Prefer": "respond-async"}) as response:
            assert response.status == 202
        async with http.post(url, data=b" " * 500_000, headers={"Content-Type": "application/json"}) as response:
            assert response.status == 413
            assert response.content_type == "application/problem+json"


@in_module
async def test_the_command_line_works_through_the_proxy(site, tmp_path):
    async def darkroom(**environment: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services", "generate", "a lighthouse", "--url", site.url, "-o", "picture.png"),
            env={**os.environ, **environment},
            cwd=tmp_path,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        return process.returncode, errors.decode()

    status, errors = await darkroom()
    assert status == 1
    assert "is not accepted" in errors
    assert "Traceback" not in errors
    assert await darkroom(SSL_CERT_FILE=str(site.certificate.path)) == (0, "")
    stored = (tmp_path / "picture.png").read_bytes()
    assert separate(stored).pixels == separate(picture(size=(1024, 1024))).pixels


def test_proxies_wait_longer_than_a_generation_may_take():
    (limit,) = re.findall(r"proxy_read_timeout (\d+)s;", proxies.PAGE.read_text())

    assert int(limit) > Settings().generation_deadline
