"""A page of any site can reach a server under a name of its own (DNS rebinding): only allowed names are served."""

from pathlib import Path

import aiohttp
import pytest
import yaml

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
