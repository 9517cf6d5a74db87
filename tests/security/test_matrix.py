"""Authorization: every caller at every route, in one table."""

import asyncio
import re
import time

import aiohttp
import pytest
from yarl import URL

from common.application.api_keys import ApiKeyStore
from common.runtime.clock import SystemClock
from common.store.sqlite import SqliteStore
from services.api.app import OPERATIONS
from tests.cluster import ORDER, embedded
from tests.inference_double import inference_double
from tests.security import callers

ASYNC = {"Prefer": "respond-async"}
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
STATUS_PATHS = ("/api/status/", "/api/status/dead-letters/", "/api/status/dead-letters/none/")
IMAGE, FILE, THUMBNAIL = "/api/images/{id}/", "/media/{image_file}", "/media/{thumbnail}"
ARCHIVES, SHARES = "/api/archives/", "/api/images/{id}/shares/"
# `ada` is the owner of the image, `bob` has a valid token of his own, a stranger has no valid token
TABLE = [
    # method   path                       ada  bob  stranger
    ("POST", "/v1/images/generations", (202, 202, 401)),
    ("GET", "/api/images/history/", (200, 200, 401)),
    ("GET", IMAGE, (200, 404, 401)),
    ("HEAD", IMAGE, (200, 404, 401)),
    ("PATCH", IMAGE, (200, 404, 401)),
    ("POST", "/api/images/{id}/cancel/", (409, 404, 401)),
    ("GET", "/api/images/{id}/deliveries/", (200, 404, 401)),
    ("GET", "/api/images/{id}/deliveries/?batch=true", (200, 404, 401)),
    ("GET", FILE, (200, 404, 401)),
    ("HEAD", FILE, (200, 404, 401)),
    ("GET", THUMBNAIL, (200, 404, 401)),
    ("POST", ARCHIVES, (201, 404, 401)),
    ("GET", ARCHIVES, (200, 200, 200)),  # with the key that ada's request got
    ("POST", SHARES, (201, 404, 401)),
    ("GET", SHARES, (200, 404, 401)),
    ("DELETE", f"{SHARES}none/", (404, 404, 401)),
    ("GET", "/share/{share}", (200, 200, 200)),  # the link that ada made
    ("HEAD", "/share/{share}", (200, 200, 200)),
    ("GET", "/share/{share}/image.png", (200, 200, 200)),
    ("GET", "/api/models/", (200, 200, 401)),
    ("GET", "/api/limits/", (200, 200, 401)),
    ("POST", "/api/ws-tickets/", (201, 201, 401)),
    ("GET", "/ws", (101, 101, 401)),
    ("GET", "/healthz", (200, 200, 200)),
    ("GET", "/readyz", (200, 200, 200)),
    ("GET", "/metrics", (200, 200, 200)),
    ("GET", "/openapi.json", (200, 200, 200)),
    ("GET", "/asyncapi.json", (200, 200, 200)),
    ("GET", "/docs", (200, 200, 200)),
    ("GET", "/docs/start.js", (200, 200, 200)),
    ("GET", "/", (200, 200, 200)),
    ("GET", "/playground/main.js", (200, 200, 200)),
    *(("GET", path, (403, 403, 401)) for path in STATUS_PATHS),
    ("POST", "/api/status/dead-letters/none/redrive/", (403, 403, 401)),
    ("DELETE", "/api/status/dead-letters/none/", (403, 403, 401)),
    ("POST", "/api/status/purge/", (403, 403, 401)),
    ("POST", "/api/status/sweep/", (403, 403, 401)),
    ("GET", "/status", (200, 200, 200)),
    ("GET", "/status/main.js", (200, 200, 200)),
    ("POST", "/openai/v1/images/generations", (200, 200, 401)),
    ("POST", "/openai/v1/images/edits", (404, 404, 401)),
    ("POST", "/openai/v1/images/variations", (404, 404, 401)),
    ("GET", "/openai/v1/models", (200, 200, 401)),
    ("GET", "/openai/v1/models/sdxl", (200, 200, 401)),
    ("DELETE", IMAGE, (204, 404, 401)),
]
BODIES = {
    ("POST", "/v1/images/generations"): ORDER,
    ("POST", "/openai/v1/images/generations"): {"prompt": "a lighthouse", "size": "64x64", "steps": 2},
    ("PATCH", IMAGE): {"pinned": True},
    ("POST", SHARES): {"expiresIn": 3600},
    ("POST", "/api/status/purge/"): {"dryRun": True},
    ("POST", "/api/status/sweep/"): {"dryRun": True},
}
HEADERS = {"/v1/images/generations": ASYNC, "/ws": WEBSOCKET}


class Matrix:
    """The server with an image of ada, and the answers of each cell."""

    def __init__(self, http: aiohttp.ClientSession, url: str, names: dict[str, str]) -> None:
        self._http, self._url, self._names = http, url, names
        self.wrong: list[tuple] = []
        self.refusals: dict[bool, set[str]] = {False: set(), True: set()}  # whether in OpenAI's form
        self.cells = 0

    async def ask(self, method: str, path: str, authorization: list[str], **more) -> tuple[int, str]:
        headers = [*(HEADERS.get(path) or {}).items(), *(("Authorization", value) for value in authorization)]
        query = f"?key={self._names['archive']}" if (method, path) == ("GET", ARCHIVES) else ""
        url = URL(self._url + path.format(**self._names) + query, encoded=True)
        body = {"ids": [self._names["id"]]} if (method, path) == ("POST", ARCHIVES) else BODIES.get((method, path))
        async with self._http.request(method, url, json=body, headers=headers, **more) as response:
            return response.status, "" if response.status == 101 else await response.text(errors="replace")

    async def row(self, caller: str, authorization: list[str], column: int) -> None:
        """One caller at every route, in the order of the table: the delete comes last."""
        for method, path, expected in TABLE:
            status, text = await self.ask(method, path, authorization)
            self.cells += 1
            if status != expected[column]:
                self.wrong.append((caller, method, path, status, text[:200]))
            if status == 401 and method != "HEAD":
                self.refusals[path.startswith("/openai/")].add(text)


async def made_by_ada(http: aiohttp.ClientSession, url: str) -> dict[str, str]:
    good = {"Authorization": f"Bearer {callers.token()}"}
    async with http.post(f"{url}/v1/images/generations", json=ORDER, headers=good) as response:
        image = await response.json()
        assert response.status == 201, image
    async with http.post(url + ARCHIVES, json={"ids": [image["id"]]}, headers=good) as response:
        archive = (await response.json())["url"].partition("=")[2]
    shares = url + SHARES.format(id=image["id"])
    async with http.post(shares, json=BODIES["POST", SHARES], headers=good) as response:
        share = (await response.json())["url"].rpartition("/")[2]
    media = {name: URL(image[f"{name}Url"]).path.removeprefix("/media/") for name in ("image", "thumbnail")}
    return {"id": image["id"], "image_file": media["image"], "archive": archive, "share": share, **media}


@pytest.fixture
async def keys(tmp_path):
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield ApiKeyStore(store, SystemClock())


@pytest.mark.fault(row=60)
@pytest.mark.fault(row=61)
@pytest.mark.long
async def test_every_caller_at_every_route(tmp_path, keys):
    """Callers without a valid token, then other owners, then the owner; the answers must match the table."""
    async with (
        callers.provider() as provider,
        inference_double() as inference,
        embedded(
            tmp_path, INFERENCE_SERVICE_URL=inference.url, SHARE_LINKS="true", **callers.settings_of(provider)
        ) as cluster,
        aiohttp.ClientSession() as http,
    ):
        names = await made_by_ada(http, cluster.url)
        matrix = Matrix(http, cluster.url, names)
        revoked, expired = await keys.create("ada"), await keys.create("ada", expires_at=SystemClock().now())
        await keys.revoke(revoked.split("_")[1])
        adas_key, bobs_key = await keys.create("ada"), await keys.create("bob")
        wrong_secret = adas_key[:-1] + ("0" if adas_key[-1] != "0" else "1")
        fetched = provider.fetched

        strangers = {
            "anonymous": [],
            "basic": ["Basic YWRhOmFkYQ=="],
            "no scheme": [callers.token()],
            "two headers": [f"Bearer {callers.token()}"] * 2,
            "a revoked key": [f"Bearer {revoked}"],
            "an expired key": [f"Bearer {expired}"],
            "a key with another secret": [f"Bearer {wrong_secret}"],
            **{what: [f"Bearer {text}"] for what, text in callers.forgeries(provider.url).items()},
        }
        for caller, authorization in strangers.items():
            await matrix.row(caller, authorization, 2)
        for caller, bearer in {
            "bob": callers.token("bob"),
            "bob, by the provider": callers.signed(sub="bob"),
            "bob's key": bobs_key,
            "ada in capitals": callers.token("ADA"),
            "ada in another alphabet": callers.token("аda"),  # noqa: RUF001 (the first letter is Cyrillic: that is the case)
            "ada with a space": callers.token("ada "),
        }.items():
            await matrix.row(caller, [f"Bearer {bearer}"], 1)
        for bearer in (callers.signed("RS256"), callers.signed("ES256"), adas_key):
            for method, path in (("GET", IMAGE), ("GET", FILE), ("GET", "/ws")):
                matrix.cells += 1
                status, text = await matrix.ask(method, path, [f"Bearer {bearer}"])
                if status not in {200, 101}:
                    matrix.wrong.append(("ada", method, path, status, text))
        await matrix.row("ada", [f"Bearer {callers.token()}"], 0)

        assert matrix.wrong == []
        assert [len(texts) for texts in matrix.refusals.values()] == [1, 1], "a 401 says the same to everyone"
        assert provider.trapped == 0, "nothing that a token names is fetched"
        assert provider.fetched <= fetched + 2, "unknown kids do not make us flood the provider"
        assert matrix.cells > 1200, matrix.cells


def test_the_table_has_every_route():
    asked = [f"{method} {path}" for method, path, _ in TABLE]
    routes = [f"{operation.method} {operation.path}" for operation in OPERATIONS]

    missing = [route for route in routes if not any(re.fullmatch(re.sub("{[^}]*}", ".+", route), row) for row in asked)]

    assert missing == []


async def test_an_unavailable_provider_admits_nobody(tmp_path):
    async with callers.provider() as provider:
        pass
    async with (
        inference_double() as inference,
        embedded(tmp_path, INFERENCE_SERVICE_URL=inference.url, **callers.settings_of(provider)) as cluster,
        aiohttp.ClientSession() as http,
    ):
        matrix = Matrix(http, cluster.url, {})
        began = time.monotonic()

        by_provider = await asyncio.gather(
            *(matrix.ask("GET", "/api/limits/", [f"Bearer {callers.signed()}"]) for _ in range(20))
        )
        by_secret = await matrix.ask("GET", "/api/limits/", [f"Bearer {callers.token()}"])

        assert {status for status, _ in by_provider} == {503}
        assert by_secret[0] == 200
        assert time.monotonic() - began < 10
