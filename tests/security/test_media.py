"""Access to media: by the owner, or by a signed URL of the file."""

import asyncio
import json
import time
from io import BytesIO

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image
from yarl import URL

from tests.cluster import ORDER, embedded
from tests.inference_double import body, inference_double, picture
from tests.security import callers

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCRIPT = b"<script>alert(document.domain)</script>"
DAY_S = 86_400  # the token is made when the tests are collected, which may be long before
BEARER = {"Authorization": f"Bearer {callers.token(exp=int(time.time()) + DAY_S)}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory):
    old = "an-older-signing-secret-of-the-tests-0123456789"
    keys = {"MEDIA_SIGNING_KEYS": f"{callers.SIGNING},{old}"}
    async with (
        inference_double() as inference,
        embedded(
            tmp_path_factory.mktemp("media"), INFERENCE_SERVICE_URL=inference.url, **(callers.settings_of() | keys)
        ) as cluster,
    ):
        inference.always(body(picture() + SCRIPT))
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def http():
    async with aiohttp.ClientSession() as http:
        yield http


@pytest_asyncio.fixture(loop_scope="module")
async def image(http, cluster):
    async with http.post(f"{cluster.url}/v1/images/generations", json=ORDER, headers=BEARER) as response:
        assert response.status == 201
        return await response.json()


async def fetched(http, cluster, path, **headers):
    async with http.get(URL(cluster.url + path, encoded=True), headers=headers, allow_redirects=False) as response:
        return response.status, response.headers, await response.read()


async def test_a_signed_url_shows_its_image_to_an_img_tag(http, cluster, image):
    for url in (image["imageUrl"], image["thumbnailUrl"]):
        status, headers, content = await fetched(http, cluster, url)
        assert status == 200
        assert headers["Content-Type"] == "image/png"
        assert Image.open(BytesIO(content)).format == "PNG"


async def test_every_view_of_an_image_has_the_same_urls(http, cluster, image):
    """REST, history, hello and event give the same URL, so that a cache keeps the file."""
    _, _, one = await fetched(http, cluster, f"/api/images/{image['id']}/", **BEARER)
    _, _, page = await fetched(http, cluster, "/api/images/history/", **BEARER)
    async with http.ws_connect(f"{cluster.url}/ws", headers=BEARER) as socket:
        await socket.receive_json(timeout=5)
        async with http.post(f"{cluster.url}/v1/images/generations", json=ORDER, headers=BEARER) as response:
            second = await response.json()
        while (frame := await socket.receive_json(timeout=5))["type"] != "image.completed":
            pass

    assert json.loads(one)["imageUrl"] == image["imageUrl"]
    assert (
        next(item for item in json.loads(page)["images"] if item["id"] == image["id"])["imageUrl"] == image["imageUrl"]
    )
    assert (frame["data"]["imageUrl"], frame["data"]["thumbnailUrl"]) == (second["imageUrl"], second["thumbnailUrl"])


async def test_a_signature_covers_file_expiry_and_key(http, cluster, image):
    url, thumbnail = URL(image["imageUrl"]), URL(image["thumbnailUrl"])
    signature, expires = url.query["signature"], url.query["expires"]
    flipped = ("B" if signature[5] != "B" else "C").join([signature[:5], signature[6:]])

    for path in [
        url.path,
        f"{url.path}?signature={signature}",
        f"{url.path}?expires={expires}",
        f"{url.path}?expires={expires}&signature=",
        f"{url.path}?expires={expires}&signature={flipped}",
        f"{url.path}?expires={int(expires) + 1}&signature={signature}",
        f"{url.path}?expires=9{expires}&signature={signature}",
        f"{url.path}?expires=1&signature={signature}",
        f"{url.path}?expires=-{expires}&signature={signature}",
        f"{url.path}?expires={expires}.0&signature={signature}",
        f"{url.path}?expires=%D9%A1&signature={signature}",
        f"{url.path}?expires={expires}&signature=%ED%A0%80",
        f"{url.path}?expires={expires}&signature={thumbnail.query['signature']}",
        f"{thumbnail.path}?expires={expires}&signature={signature}",
    ]:
        status, _, content = await fetched(http, cluster, path)
        assert status == 401, (path, status)
        assert b"PNG" not in content


def rendition(url: str, width: int = 512) -> str:
    path, _, query = url.replace("/generated_images/", "/renditions/").partition("?")
    return f"{path}.{width}.webp?{query}"


async def test_a_picture_url_also_opens_its_renditions(http, cluster, image):
    url = rendition(image["imageUrl"])

    first = await fetched(http, cluster, url)
    second = await fetched(http, cluster, url)

    for status, headers, content in (first, second):
        assert (status, headers["Content-Type"]) == (200, "image/webp")
        assert headers["Cache-Control"].startswith("private, ")
        assert Image.open(BytesIO(content)).format == "WEBP"
    assert first[2] == second[2]
    assert "ETag" in second[1]
    # no other width, no thumbnail, no other signature, nothing without one
    path = url.partition("?")[0]
    assert (await fetched(http, cluster, rendition(image["imageUrl"], 511)))[0] in {401, 404}
    assert (await fetched(http, cluster, f"{path}?{image['thumbnailUrl'].partition('?')[2]}"))[0] == 401
    assert (await fetched(http, cluster, path))[0] == 401
    assert (await fetched(http, cluster, path, Authorization=f"Bearer {callers.token('bob')}"))[0] == 404
    assert (await fetched(http, cluster, f"{path.replace('.512.', '.511.')}", **BEARER))[0] == 404

    async with http.delete(f"{cluster.url}/api/images/{image['id']}/", headers=BEARER) as response:
        assert response.status == 204
    assert (await fetched(http, cluster, url))[0] == 404
    assert not list(cluster.media.rglob(f"{image['id']}*"))


async def test_a_deleted_image_is_gone_for_a_signed_url_too(http, cluster, image):
    async with http.delete(f"{cluster.url}/api/images/{image['id']}/", headers=BEARER) as response:
        assert response.status == 204

    assert (await fetched(http, cluster, image["imageUrl"]))[0] == 404
    assert (await fetched(http, cluster, URL(image["imageUrl"]).path, **BEARER))[0] == 404


@pytest.mark.fault(row=40)
async def test_a_script_behind_an_image_is_served_as_an_image(http, cluster, image):
    _, headers, content = await fetched(http, cluster, image["imageUrl"])

    assert content.endswith(SCRIPT)
    assert headers["Content-Type"] == "image/png"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    _, _, thumbnail = await fetched(http, cluster, image["thumbnailUrl"])
    assert b"<script" not in thumbnail


async def test_an_image_is_cached_by_browsers_only(http, cluster, image):
    _, headers, _ = await fetched(http, cluster, image["imageUrl"])
    again, _, _ = await fetched(http, cluster, image["imageUrl"], **{"If-None-Match": headers["ETag"]})
    some, ranged, _ = await fetched(http, cluster, image["imageUrl"], Range="bytes=0-9")
    beyond, _, _ = await fetched(http, cluster, image["imageUrl"], Range="bytes=9999999-")

    assert headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert (again, some, beyond) == (304, 206, 416)
    assert ranged["Content-Length"] == "10"


@pytest.mark.fault(row=59)
async def test_no_path_leads_out_of_the_media(http, cluster, image):
    """Links in the storage are not followed; ids are compared with records, never used as paths."""
    secret = cluster.folder / "secret.txt"
    secret.write_text("a secret of the server")
    file = next((cluster.media / "generated_images").rglob(f"{image['id']}.png"))
    month = "/".join(file.relative_to(cluster.media).parts[:3])
    other = "01890000-0000-7000-8000-000000000000"
    (file.parent / f"{other}.png").symlink_to(secret)

    for path in [
        "/media/../darkroom.db",
        "/media/..%2fdarkroom.db",
        "/media/%2e%2e/darkroom.db",
        "/media/%2e%2e%2fdarkroom.db",
        "/media/..%252fdarkroom.db",
        "/media/....//darkroom.db",
        "/media/..%5cdarkroom.db",
        f"/media/{secret}",
        f"/media/%2F{str(secret)[1:]}",
        "/media//etc/passwd",
        "/media/%00",
        f"/media/{month}/{image['id']}.png%00.txt",
        f"/media/{month}/{other}.png",
        f"/media/{month}/../../../secret.txt",
        f"/media/{month}/{image['id']}.PNG",
        f"/media/{month}/{image['id'].upper()}.png",
        "/media/generated_images/",
        "/media/",
    ]:
        status, _, content = await fetched(http, cluster, path, **BEARER)
        assert status == 404, (path, status)
        assert b"secret" not in content.replace(b"secret.txt", b"")

    file.unlink()
    file.symlink_to(secret)
    status, _, content = await fetched(http, cluster, URL(image["imageUrl"]).path, **BEARER)
    assert status in {404, 503}, "a link in the place of a file is a disk that is not as it should be"
    assert b"a secret of the server" not in content


async def test_without_limits_there_are_no_ratelimit_headers(http, cluster):
    async with http.post(f"{cluster.url}/v1/images/generations", json=ORDER, headers=BEARER) as response:
        assert response.status == 201
        assert not [name for name in response.headers if name.lower().startswith("ratelimit")]


@pytest.mark.fault(row=47)
async def test_a_file_lost_behind_our_back_is_a_404(http, cluster, image):
    next((cluster.media / "thumbnails").rglob(f"{image['id']}.png")).unlink()

    statuses = await asyncio.gather(*(fetched(http, cluster, image["thumbnailUrl"]) for _ in range(3)))

    assert {status for status, _, _ in statuses} == {404}
