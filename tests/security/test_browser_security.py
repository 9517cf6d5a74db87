"""Pages of other hosts in a visitor's browser: only allowed origins may use the api."""

import aiohttp
import pytest
import pytest_asyncio

from services.api.app import OPERATIONS
from tests.cluster import ORDER, embedded
from tests.inference_double import inference_double
from tests.security import callers

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALLOWED, FOREIGN = "https://app.example.org", "https://evil.example.org"
IMAGE = "/api/images/01890000-0000-7000-8000-000000000000/"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def protected(tmp_path_factory):
    """A server with identity and one allowed origin."""
    async with (
        inference_double() as inference,
        embedded(
            tmp_path_factory.mktemp("guarded"),
            INFERENCE_SERVICE_URL=inference.url,
            CORS_ORIGINS=ALLOWED,
            **callers.settings_of(),
        ) as cluster,
    ):
        yield cluster.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory):
    """A server without identity: one owner, on loopback."""
    async with (
        inference_double() as inference,
        embedded(tmp_path_factory.mktemp("alone"), INFERENCE_SERVICE_URL=inference.url) as cluster,
    ):
        yield cluster.url


async def ask(method, url, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as http, http.request(method, url, json=body, headers=headers) as response:
        return response.status, response.headers, await response.text()


async def test_every_answer_carries_the_security_headers(protected):
    paths = [operation.path.partition("{")[0] for operation in OPERATIONS]

    for path in [*dict.fromkeys(paths), "/nowhere", IMAGE]:
        _, headers, _ = await ask("GET", protected + path)
        policy = headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy, path
        assert "script-src" not in policy or "script-src 'self';" in policy, path
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["Server"] == "darkroom", path


async def test_answers_about_an_owner_are_not_cached(protected):
    _, headers, _ = await ask("GET", f"{protected}/api/limits/", Authorization=f"Bearer {callers.token()}")

    assert headers["Cache-Control"] == "no-store"


async def test_an_allowed_origin_may_request_and_read(protected):
    status, preflight, _ = await ask(
        "OPTIONS",
        f"{protected}/v1/images/generations",
        Origin=ALLOWED,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type,idempotency-key",
    )
    ordered, answer, _ = await ask(
        "POST",
        f"{protected}/v1/images/generations",
        ORDER,
        Origin=ALLOWED,
        Authorization=f"Bearer {callers.token()}",
    )

    assert status == 204
    assert preflight["Access-Control-Allow-Origin"] == ALLOWED
    assert "Authorization" in preflight["Access-Control-Allow-Headers"]
    assert "POST" in preflight["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in preflight
    assert (ordered, answer["Access-Control-Allow-Origin"]) == (201, ALLOWED)
    assert "Origin" in answer["Vary"]


@pytest.mark.parametrize("origin", [FOREIGN, "null", f"{ALLOWED}.evil.example.org", "http://app.example.org", "*"])
async def test_an_origin_that_is_not_allowed_reads_nothing(protected, origin):
    identity = {"Authorization": f"Bearer {callers.token()}"}
    url = f"{protected}/v1/images/generations"

    preflight = await ask("OPTIONS", url, Origin=origin, Access_Control_Request_Method="POST")
    post = await ask("POST", url, ORDER, Origin=origin, **identity)
    read = await ask("GET", f"{protected}/api/limits/", Origin=origin, **identity)

    assert preflight[0] == 405
    assert post[0] == 403
    assert '"origin_not_allowed"' in post[2]
    assert not [name for _, headers, _ in (preflight, post, read) for name in headers if "Allow-Origin" in name]


async def test_a_foreign_page_cannot_act_as_the_local_owner(local):
    """A form of any page can send a POST without a body: a cancel, a ticket."""
    for path in (f"{IMAGE}cancel/", "/api/ws-tickets/"):
        assert (await ask("POST", local + path, Origin=FOREIGN))[0] == 403
        assert (await ask("POST", local + path, Origin=local))[0] in {201, 404}


@pytest.mark.parametrize("host", ["evil.example.org", "evil.example.org:8000", "127.0.0.1.evil.example.org", "["])
async def test_a_rebound_host_name_is_refused_without_identity(local, host):
    status, _, text = await ask("GET", f"{local}/api/images/history/", Host=host)

    assert status in {400, 403}
    assert "host_not_allowed" in text or status == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"])
async def test_the_names_of_loopback_are_accepted(local, host):
    assert (await ask("GET", f"{local}/api/images/history/", Host=host))[0] == 200


async def test_a_405_lists_the_allowed_methods(protected):
    identity = {"Authorization": f"Bearer {callers.token()}"}
    for method, path, allowed in [
        ("GET", "/v1/images/generations", "POST"),
        ("DELETE", "/api/images/history/", "GET,HEAD"),
        ("PUT", IMAGE, "DELETE,GET,HEAD,PATCH"),
        ("TRACE", "/healthz", "GET,HEAD"),
        ("POST", "/openapi.json", "GET,HEAD"),
    ]:
        status, headers, text = await ask(method, protected + path, **identity)
        assert (status, headers["Allow"]) == (405, allowed), (method, path, text)


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/*", 200),
        ("application/json;q=0.5, text/html", 200),
        ("text/html, */*;q=0.1", 200),
        ("", 200),
        ("nonsense", 200),
        ("text/html", 406),
        ("image/png", 406),
        ("application/json;q=0, text/html", 406),
        ("application/json; q=0.000", 406),
    ],
)
async def test_accept_without_json_gets_a_406(protected, accept, status):
    found, _, text = await ask(
        "GET", f"{protected}/api/limits/", Accept=accept, Authorization=f"Bearer {callers.token()}"
    )

    assert found == status, text
