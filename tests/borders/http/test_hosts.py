"""A page of any site can reach a server under a name of its own (DNS rebinding): only allowed names are served."""

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import aiohttp
import pytest
import yaml
from aiohttp.test_utils import TestServer

from common.application.health import build_health_app
from common.runtime.reading_settings import read_settings
from services import wiring

pytestmark = pytest.mark.border(rule="D2")
COMPOSE = yaml.safe_load((Path(__file__).parents[3] / "docker-compose.yml").read_text())["services"]
EVERYONE = {"API_HOST": "0.0.0.0", "ALLOW_ANONYMOUS": "true"}
FOREIGN = [
    "evil.example.org",
    "evil.example.org:8000",
    "localhost.evil.example.org",
    "127.0.0.1.nip.io:8000",
    "localhost@evil.example.org",
    "10.0.0.7",
    "[::ffff:10.0.0.7]:8000",
    "",
    "\udcff",
]


def of_compose(service: str) -> str:
    """The names that the Compose file sets if the operator sets none."""
    value = COMPOSE[service]["environment"]["ALLOWED_HOSTS"]
    return value.removeprefix("${ALLOWED_HOSTS:-").removesuffix("}")


async def status_of(api, path: str, host: str, *more: str) -> int:
    reader, writer = await api.send(f"{path} HTTP/1.1", f"Host: {host}", *more, "Connection: close")
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize(
    "path",
    ["GET /api/images/history/", "DELETE /api/images/0/", "GET /", "GET /ws", "GET /media/x", "GET /openapi.json"],
)
async def test_compose_serves_only_its_own_hosts(serve, path, host):
    async with serve(**EVERYONE, ALLOWED_HOSTS=of_compose("api")) as api:
        assert await status_of(api, path, host) in {400, 403}


BODY = b'{"prompt": "a"}'
JSON = ["Content-Type: application/json", f"Content-Length: {len(BODY)}"]
UPGRADE = ["Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}=="]
PREFLIGHT = ["Origin: http://evil.example.org", "Access-Control-Request-Method: POST"]


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("POST /v1/images/generations HTTP/1.1", JSON),
        ("POST /v1/images/generations HTTP/1.1", [*JSON, "Origin: http://evil.example.org:8000"]),
        ("GET /ws HTTP/1.1", UPGRADE),
        ("GET /ws HTTP/1.1", [*UPGRADE, "Origin: http://evil.example.org:8000"]),
        ("OPTIONS /v1/images/generations HTTP/1.1", PREFLIGHT),
        ("HEAD /api/images/history/ HTTP/1.1", []),
        ("PATCH /api/images/0/ HTTP/1.1", JSON),
        ("GET /metrics HTTP/1.1", []),
        ("GET /healthz HTTP/1.1", []),
        ("GET /docs HTTP/1.1", []),
        ("GET /playground/main.js HTTP/1.1", []),
        ("GET /no/such/page HTTP/1.1", []),
        ("GET http://evil.example.org/api/images/history/ HTTP/1.1", []),
        ("GET /api/images/history/ HTTP/1.0", []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_every_kind_of_request_of_a_foreign_name_is_refused(serve, line, headers):
    async with serve(**EVERYONE, ALLOWED_HOSTS=of_compose("api")) as api:
        body = BODY if headers[:2] == JSON else b""
        reader, writer = await api.send(line, "Host: evil.example.org:8000", *headers, body=body)
        assert (await reader.readline()).split()[1] == b"403"
        writer.close()
        assert (await api.ask("GET", "/api/images/history/?status=all"))[2]["total"] == 0


@pytest.mark.parametrize(
    "hosts",
    [
        ["Host: localhost", "Host: evil.example.org"],
        ["Host: evil.example.org", "Host: localhost"],
        ["Host: localhost, evil.example.org"],
        ["Host: localhost evil.example.org"],
        ["Host: evil.example.org#localhost"],
        ["Host: evil.example.org/localhost"],
        ["Host: localhost:80:80"],
        ["Host: localhost%00.evil.example.org"],
        ["Host: localhost."],
    ],
    ids=repr,
)
async def test_a_host_that_can_be_read_in_two_ways_is_refused(serve, hosts):
    """The dot at the end names the same host."""
    async with serve(**EVERYONE, ALLOWED_HOSTS=of_compose("api")) as api:
        reader, writer = await api.send("GET /api/images/history/ HTTP/1.1", *hosts, "Connection: close")
        status = int((await reader.readline()).split()[1])
        writer.close()
    assert (status == 200) is (hosts == ["Host: localhost."])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "api:8000", "api."])
async def test_the_names_of_compose_are_served(serve, host):
    async with serve(**EVERYONE, ALLOWED_HOSTS=of_compose("api")) as api:
        assert await status_of(api, "GET /api/images/history/", host) == 200


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "evil.example.org", 403),
        ({}, "localhost", 200),
        (EVERYONE, "any.example.org", 200),
        ({"ALLOWED_HOSTS": "*.example.org"}, "draw.example.org:443", 200),
        ({"ALLOWED_HOSTS": "*.example.org"}, "example.org.evil.org", 403),
        ({"ALLOWED_HOSTS": "*.example.org"}, "127.0.0.1", 403),
        ({"ALLOWED_HOSTS": "*"}, "any.example.org", 200),
        ({"PUBLIC_URL": "https://draw.example.org"}, "draw.example.org", 200),
        ({"PUBLIC_URL": "https://draw.example.org"}, "evil.example.org", 403),
    ],
)
async def test_hosts_are_allowed_by_the_settings(serve, settings, host, status):
    async with serve(**settings) as api:
        assert await status_of(api, "GET /api/limits/", host) == status


@pytest.mark.parametrize(
    ("trusted", "header", "status"),
    [
        ("127.0.0.1", "X-Forwarded-Host: evil.example.org", 403),
        ("127.0.0.0/8", 'Forwarded: for="[::1]";host=evil.example.org;proto=https', 403),
        ("127.0.0.1", "X-Forwarded-Host: localhost, evil.example.org", 403),
        ("10.0.0.0/8", "X-Forwarded-Host: evil.example.org", 200),
        ("", "X-Forwarded-Host: evil.example.org", 200),
        ("127.0.0.1", "X-Forwarded-Host: localhost", 200),
    ],
)
async def test_forwarded_hosts_count_from_trusted_proxies_alone(serve, trusted, header, status):
    async with serve(TRUSTED_PROXIES=trusted) as api:
        assert await status_of(api, "GET /api/limits/", "127.0.0.1", header) == status


@pytest.mark.parametrize(
    ("trusted", "origin", "status"),
    [
        ("127.0.0.1", "https://draw.example.org", 404),
        ("127.0.0.1", "https://evil.example.org", 403),
        ("", "https://draw.example.org", 403),
    ],
)
async def test_the_origin_is_compared_with_what_a_trusted_proxy_says(serve, trusted, origin, status):
    path = "DELETE /api/images/01900000-0000-7000-8000-000000000000/"
    async with serve(TRUSTED_PROXIES=trusted, ALLOWED_HOSTS="api,draw.example.org") as api:
        forwarded = ("X-Forwarded-Host: draw.example.org", f"Origin: {origin}")
        assert await status_of(api, path, "api:8000", *forwarded) == status


@pytest.mark.parametrize(
    "origin", ["tauri://localhost", "app://.", "capacitor://localhost", "chrome-extension://abcdef"]
)
async def test_desktop_shells_are_allowed_by_name_only(serve, origin):
    async with serve() as api:
        assert await status_of(api, "POST /api/ws-tickets/", "localhost", f"Origin: {origin}") == 403
    async with serve(CORS_ORIGINS=origin) as api:
        assert await status_of(api, "POST /api/ws-tickets/", "localhost", f"Origin: {origin}") == 201


@pytest.mark.parametrize("host", FOREIGN)
async def test_the_reference_server_serves_only_its_own_names(host):
    settings = read_settings({"INFERENCE_PORT": "0"})
    async with wiring.serve_inference(settings, host="127.0.0.1") as url, aiohttp.ClientSession() as http:
        for path in ("/inference/capabilities", "/healthz"):
            async with http.get(url + path) as response:
                assert response.status == 200
            async with http.get(url + path, headers={"Host": host}) as response:
                assert response.status in {400, 403}, path


@pytest.mark.parametrize(("host", "status"), [("inference:8001", 200), ("evil.example.org", 403)])
async def test_the_reference_server_of_compose_serves_only_its_names(host, status):
    settings = read_settings({"INFERENCE_PORT": "0", "ALLOWED_HOSTS": of_compose("inference")})
    async with wiring.serve_inference(settings, host="0.0.0.0") as url, aiohttp.ClientSession() as http:
        port = url.rsplit(":", 1)[1]
        async with http.get(f"http://127.0.0.1:{port}/inference/capabilities", headers={"Host": host}) as response:
            assert response.status == status


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "localhost", 200),
        ({}, "127.0.0.1:8080", 200),
        ({}, "10.1.2.3:8080", 200),
        ({}, "[::1]:8080", 200),
        ({}, "evil.example.org:8080", 403),
        ({}, "127.0.0.1.nip.io", 403),
        ({"ALLOWED_HOSTS": "janitor.internal"}, "janitor.internal", 200),
        ({"ALLOWED_HOSTS": "janitor.internal"}, "localhost", 200),
        ({"HEALTH_HOST": "0.0.0.0"}, "janitor.internal", 200),
        ({"HEALTH_HOST": "0.0.0.0", "ALLOWED_HOSTS": "janitor.internal"}, "evil.example.org", 403),
        ({"HEALTH_HOST": "0.0.0.0", "ALLOWED_HOSTS": "janitor.internal"}, "10.1.2.3", 200),
    ],
)
async def test_health_of_the_other_services_is_served_by_known_names(settings, host, status):
    read = read_settings(settings)
    bus, part = SimpleNamespace(unready_reason="", warning=""), SimpleNamespace(check=AsyncMock(return_value=None))
    names = wiring.server_names(read, host=read.health_host)
    app = build_health_app(bus=bus, store=part, media=part, allowed_hosts=names)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        for path in ("/metrics", "/healthz", "/readyz", "/none"):
            async with http.get(server.make_url(path), headers={"Host": host}) as response:
                assert response.status == (404 if (status, path) == (200, "/none") else status)
