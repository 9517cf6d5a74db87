"""The requests of Open WebUI, LiteLLM, LibreChat and Azure's clients, as they send them."""

import base64

import aiohttp
import pytest

from tests.openai.conftest import WITH_IDENTITY
from tests.security import callers

PNG = b"\x89PNG"


@pytest.fixture
async def client(serve):
    async with serve(**WITH_IDENTITY) as darkroom, aiohttp.ClientSession() as http:
        yield darkroom, http


async def test_open_webui(client):
    """A format but for gpt-image, a version in the query, its user in headers, the URL with the same Bearer."""
    darkroom, http = client
    bearer = {"Authorization": f"Bearer {callers.token()}"}
    headers = {**bearer, "Content-Type": "application/json", "X-OpenWebUI-User-Name": "Ada", "X-OpenWebUI-User-Id": "1"}
    body = {"model": "dall-e-3", "prompt": "a cat", "n": 1, "size": "512x512", "response_format": "b64_json"}
    for fields, query in (({}, ""), ({"steps": 4, "negative_prompt": "dogs"}, "?api-version=2025-01-01")):
        url = f"{darkroom.base_url}/images/generations{query}"
        async with http.post(url, json={**body, **fields}, headers=headers) as response:
            data = (await response.json())["data"]
        assert base64.b64decode(data[0]["b64_json"]).startswith(PNG)

    del body["response_format"]
    async with http.post(
        f"{darkroom.base_url}/images/generations", json={**body, "model": "gpt-image-1"}, headers=headers
    ) as response:
        assert "b64_json" in (await response.json())["data"][0]
    async with http.post(
        f"{darkroom.base_url}/images/generations", json={**body, "response_format": "url"}, headers=headers
    ) as response:
        shown = (await response.json())["data"][0]["url"]
    async with http.get(shown, headers=bearer) as response:
        assert response.headers["Content-Type"].startswith("image/")
        assert (await response.read()).startswith(PNG)
    assert [order["negative_prompt"] for order in darkroom.inference.orders] == ["", "dogs", "", ""]


async def test_litellm(client):
    """Standard fields by the SDK, and `seed` as it is given."""
    darkroom, _ = client
    sdk = darkroom.client(token=callers.token())
    found = await sdk.images.generate(
        model="sdxl", prompt="a cat", n=2, quality="standard", size="1024x1024", style="vivid", user="u",
        extra_body={"seed": 7},
    )  # fmt: skip

    assert len(found.data) == 2
    assert sorted(order["seed"] for order in darkroom.inference.orders) == [7, 8]


@pytest.mark.parametrize("headers", [{"api-key": "{key}"}, {"api-key": "{key}", "Authorization": "Bearer {key}"}])
async def test_librechat(client, headers):
    """gpt-image-1 without a format, and Azure's header with or without the SDK's."""
    darkroom, http = client
    sent = {name: value.format(key=callers.token()) for name, value in headers.items()}
    body = {"model": "gpt-image-1", "prompt": "a cat", "n": 1, "size": "auto", "quality": "auto", "background": "auto"}
    async with http.post(f"{darkroom.base_url}/images/generations/", json=body, headers=sent) as response:
        data = (await response.json())["data"]

    assert base64.b64decode(data[0]["b64_json"]).startswith(PNG)


@pytest.mark.parametrize(
    "headers", [{"api-key": "sk-wrong"}, {"api-key": "{key}", "Authorization": "Bearer sk-wrong"}, {"api-key": ""}]
)
async def test_the_header_of_azure_makes_up_for_nothing(client, headers):
    darkroom, http = client
    sent = {name: value.format(key=callers.token()) for name, value in headers.items()}
    async with http.get(f"{darkroom.base_url}/models", headers=sent) as response:
        assert response.status == 401
    async with http.get(f"{darkroom.url}/api/models/", headers={"api-key": callers.token()}) as response:
        assert response.status == 401, "elsewhere the header means nothing"


async def test_a_page_of_an_allowed_origin_may_use_the_sdk(serve):
    origin = "https://app.example.org"
    async with serve(CORS_ORIGINS=origin) as darkroom, aiohttp.ClientSession() as http:
        wanted = "authorization,content-type,x-stainless-retry-count,x-stainless-os"
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": wanted,
        }
        async with http.options(f"{darkroom.base_url}/images/generations", headers=headers) as response:
            allowed = response.headers["Access-Control-Allow-Headers"].lower()
            assert response.status == 204
        async with http.get(f"{darkroom.base_url}/models", headers={"Origin": origin}) as response:
            assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]

    assert set(wanted.split(",")) <= set(allowed.split(", "))


@pytest.mark.parametrize(
    ("settings", "headers", "start"),
    [
        ({"PUBLIC_URL": "https://draw.example.org/draw/"}, {}, "https://draw.example.org/draw/media/"),
        (
            {"TRUSTED_PROXIES": "127.0.0.1", "ALLOWED_HOSTS": "draw.example.org,127.0.0.1"},
            {"X-Forwarded-Host": "draw.example.org", "X-Forwarded-Proto": "https"},
            "https://draw.example.org/media/",
        ),
        ({}, {"X-Forwarded-Host": "127.0.0.1:1", "X-Forwarded-Proto": "https"}, "http://127.0.0.1:"),
        ({"MEDIA_URL": "https://cdn.example.org/"}, {}, "https://cdn.example.org/generated_images/"),
    ],
    ids=["PUBLIC_URL", "a trusted proxy", "an untrusted one", "media elsewhere"],
)
async def test_a_url_is_the_one_of_the_client(serve, settings, headers, start):
    async with serve(**{"ALLOWED_HOSTS": "127.0.0.1", **settings}) as darkroom, aiohttp.ClientSession() as http:
        urls = {}
        for wanted in ("png", "jpeg"):
            body = {"prompt": "a cat", "size": "64x64", "response_format": "url", "output_format": wanted}
            async with http.post(f"{darkroom.base_url}/images/generations", json=body, headers=headers) as response:
                urls[wanted] = (await response.json())["data"][0]["url"]

    assert urls["png"].startswith(start)
    # a file elsewhere has the stored format
    assert urls["jpeg"].startswith(f"{darkroom.url}/media/" if "MEDIA_URL" in settings else start)
    assert urls["jpeg"].endswith(".png?format=jpeg")
