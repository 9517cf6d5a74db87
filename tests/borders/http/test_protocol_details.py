"""Details of HTTP: what it allows is taken, what must not be cached says so."""

import json

import pytest

from common.domain.images import Format, Status
from common.store.port import change
from tests.borders.http.conftest import ORDERS
from tests.cluster import ORDER
from tests.inference_double import picture
from tests.security import callers
from tests.waiting import until

pytestmark = pytest.mark.border(rule="D5")
PNG = picture()
CONDITIONS = [
    ({"Range": "bytes=0-9"}, 206),
    ({"Range": "BYTES=-5"}, 206),
    ({"Range": "bytes=9000000-"}, 416),
    ({"Range": "bytes=-0"}, 416),
    ({"Range": "pages=1-2"}, 200),
    ({"Range": "bytes=9-1"}, 200),
    ({"Range": "bytes=0-1, 4-5"}, 200),
    ({"Range": "bytes=-"}, 200),
    ({"Range": "what"}, 200),
    ({"Range": "bytes=0-9", "If-Range": '"another"'}, 200),
    ({"Range": "bytes=9000000-", "If-Range": '"another"'}, 200),
    ({"Range": "bytes=0-9", "If-Range": 'W/"another"'}, 200),
    ({"Range": "bytes=0-9", "If-Range": "Wed, 01 Jan 2020 00:00:00 GMT"}, 200),
    ({"If-Match": '"another"'}, 412),
    ({"If-Match": "*"}, 200),
    ({"If-Unmodified-Since": "Wed, 01 Jan 2020 00:00:00 GMT"}, 412),
]


async def order(api, **more):
    """Status, headers and body of a POST; it waits for at most a second unless its headers say something else."""
    return await api.ask("POST", ORDERS, **({"json": ORDER, "headers": {"Prefer": "wait=1"}} | more))


@pytest.mark.parametrize(
    ("lines", "applied"),
    [
        (["respond-async"], "respond-async"),
        (["handling=lenient", "respond-async"], "respond-async"),
        (["wait=1", "respond-async"], "wait=1"),
        (["respond-async; foo=bar"], "respond-async"),
        (['respond-async; foo="a, b", wait=1'], "wait=1"),
        (['return=minimal;x="a\\",b" , Respond-Async'], "respond-async"),
        (["wait = 1"], "wait=1"),
        (['wait="1"'], "wait=1"),
        (["wait=1, wait=500"], "wait=1"),
        (["wait=0"], "respond-async"),
        ([",, ,respond-async"], "respond-async"),
        (["@@@, respond-async"], "respond-async"),
    ],
)
async def test_prefer_is_read_in_every_form(serve, lines, applied):
    async with serve() as api:
        body = json.dumps(ORDER).encode()
        head = [f"POST {ORDERS} HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        reader, writer = await api.send(*head, *(f"Prefer: {line}" for line in lines), "Connection: close", body=body)
        answer = (await reader.read()).decode()
        writer.close()

    assert answer.startswith("HTTP/1.1 202 ")
    assert f"\r\nPreference-Applied: {applied}\r\n" in answer


@pytest.mark.parametrize("coding", ["identity", "Identity", " IDENTITY ", ""])
async def test_a_body_of_identity_coding_is_taken(serve, coding):
    async with serve() as api:
        assert (await order(api, headers={"Content-Encoding": coding, "Prefer": "respond-async"}))[0] == 202


@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "br"])
async def test_a_body_of_another_coding_is_refused(serve, coding):
    async with serve() as api:
        status, _, problem = await order(api, headers={"Content-Encoding": coding}, json=None, data=b"{}")

    assert (status, problem["code"]) == (415, "not_json")


@pytest.mark.parametrize("character", ["\U0001f600", "é", "漢", '"', "\x7e"])
async def test_two_full_prompts_in_their_longest_spelling_fit(serve, character):
    escaped = "".join(f"\\u{unit:04x}" for unit in _utf16(character)) * 4000
    body = f'{{"prompt": "{escaped}", "negative_prompt": "{escaped}"}}'.encode()
    headers = {"Content-Type": "application/json", "Prefer": "respond-async"}

    async with serve() as api:
        status, _, image = await order(api, json=None, data=body, headers=headers)

    assert (status, image["prompt"], image["negativePrompt"]) == (202, character * 4000, character * 4000)


def _utf16(character: str) -> list[int]:
    encoded = character.encode("utf-16-be")
    return [int.from_bytes(encoded[at : at + 2]) for at in range(0, len(encoded), 2)]


@pytest.mark.parametrize("prompt", ["a\r\nb", "a\rb", "a\nb"])
async def test_every_line_break_of_a_prompt_is_one(serve, prompt):
    fields = {**ORDER, "prompt": prompt, "negative_prompt": prompt}
    key = {"Idempotency-Key": "same", "Prefer": "respond-async"}
    async with serve() as api:
        _, _, image = await order(api, json=fields, headers=key)
        again, _, _ = await order(api, json={**fields, "prompt": "a\nb", "negative_prompt": "a\nb"}, headers=key)

    assert (image["prompt"], image["negativePrompt"], again) == ("a\nb", "a\nb", 202)


@pytest.fixture
async def file(serve):
    """An api with a completed image, and the path of its picture."""
    async with serve() as api:
        _, _, image = await order(api, headers={"Prefer": "respond-async"})
        yield api, await completed(api, image["id"], PNG)


async def completed(api, image_id: str, content: bytes) -> str:
    """Complete the image with this picture; returns its path."""
    key = f"generated_images/2025/01/{image_id}.png"
    await api.media.put(key, content)
    await change(api.store, image_id, _completed(key))
    return f"/media/{key}"


def _completed(key: str):
    def completed(image):
        done = {"status": Status.COMPLETED, "image_file": key, "thumbnail": key, "format": Format.PNG}
        return image.model_copy(update={**done, "revision": image.revision + 1})

    return completed


@pytest.mark.parametrize(("headers", "status"), CONDITIONS, ids=str)
async def test_a_range_is_served_or_ignored_and_refusals_are_problems(file, headers, status):
    api, path = file

    found, given, problem = await api.ask("GET", path, headers=headers)

    assert found == status
    if status >= 400:
        assert (given["Content-Type"], problem["status"]) == ("application/problem+json; charset=utf-8", status)
        assert given["Cache-Control"] == "no-store"
        assert "ETag" not in given
    else:
        assert given["Cache-Control"].endswith("immutable")
    if status == 416:
        assert given["Content-Range"] == f"bytes */{len(PNG)}"


async def test_a_range_of_the_same_version_is_served(file):
    api, path = file
    _, whole, _ = await api.ask("GET", path)

    for condition in (whole["ETag"], whole["Last-Modified"]):
        found, given, _ = await api.ask("GET", path, headers={"Range": "bytes=0-9", "If-Range": condition})
        assert (found, given["Content-Range"]) == (206, f"bytes 0-9/{len(PNG)}")
    assert (await api.ask("GET", path, headers={"If-None-Match": whole["ETag"]}))[0] == 304


@pytest.mark.parametrize("path", ["/media/generated_images/2025/01/x.png", "/media/../etc/passwd", "/playground/x.js"])
async def test_missing_files_are_not_cacheable(serve, path):
    async with serve() as api:
        status, headers, _ = await api.ask("GET", path)

    assert (status, headers["Cache-Control"]) == (404, "no-store")


async def test_keys_that_a_provider_revokes_are_not_used(serve):
    async with callers.provider() as provider:
        provider.keys = []
        async with serve(**callers.settings_of(provider)) as api:
            await until(lambda: provider.fetched)
            headers = {"Authorization": f"Bearer {callers.signed()}"}
            status, _, problem = await api.ask("GET", "/api/limits/", headers=headers)

    assert (status, problem["code"]) == (401, "unauthorized"), "and no 503: the provider has answered"


@pytest.mark.parametrize("ticket", ["\udcff", "tick\u00e9t", "a" * 5000, "\u2028"])
async def test_an_odd_ticket_is_not_valid(serve, ticket):
    upgrade = [
        "Upgrade: websocket",
        "Connection: upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {'A' * 22}==",
    ]
    async with serve(**callers.settings_of()) as api:
        protocols = f"Sec-WebSocket-Protocol: darkroom.v1, ticket.{ticket}"
        reader, writer = await api.send("GET /ws HTTP/1.1", *upgrade, protocols)
        assert (await reader.readline()).split()[1] == b"401"
        writer.close()


@pytest.mark.parametrize("protocols", [["ticket.secret-ticket"], ["other", "ticket.secret-ticket"]])
async def test_a_ticket_beside_a_header_is_not_logged(serve, caplog, protocols):
    headers = {"Authorization": f"Bearer {callers.token()}"}
    async with (
        serve(**callers.settings_of()) as api,
        api.http.ws_connect(f"{api.url}/ws", headers=headers, protocols=protocols) as socket,
    ):
        assert (await socket.receive_json(timeout=5))["type"] == "hello"

    assert "secret-ticket" not in caplog.text


@pytest.mark.parametrize("coding", ["gzip;q=0", "gzip; q=0.0", "GZIP ; Q=0", "br, gzip;q=0.000", "gzip;q=0, *"])
async def test_an_excluded_coding_is_not_sent(serve, coding):
    async with serve() as api:
        _, headers, _ = await api.ask("GET", "/", headers={"Accept-Encoding": coding})

    assert "Content-Encoding" not in headers


async def test_an_ipv6_address_is_served_and_named_in_brackets(serve, caplog):
    from common.runtime.addresses import url_of

    async with serve(API_HOST="::1") as api, api.http.get(f"{url_of('::1', api.port)}/api/limits/") as response:
        assert response.status == 200

    assert url_of("::1", 8000) == "http://[::1]:8000"
