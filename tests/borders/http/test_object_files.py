"""Files of an object store, as the api serves them: like plain files, or by links to the object store."""

from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from botocore import auth, awsrequest, credentials
from yarl import URL

from common.domain.errors import Unavailable
from services.api.middleware.stored_files import READ
from tests.borders.http.test_protocol_details import CONDITIONS, PNG, completed, order
from tests.proxy import proxy_before, proxy_to
from tests.waiting import until

pytestmark = pytest.mark.border(rule="D5")
LARGE = PNG + bytes(40_000_000)
COMPARED = ("Content-Type", "Content-Length", "Content-Range", "Content-Disposition", "Cache-Control", "Accept-Ranges")


@asynccontextmanager
async def picture_of(serve, content=PNG, **more):
    """An api with a completed image, and the path of its picture."""
    async with serve(**more) as api:
        _, _, image = await order(api, headers={"Prefer": "respond-async"})
        yield api, await completed(api, image["id"], content)


async def fetched(api, method, path, headers=None):
    async with api.http.request(
        method, URL(api.url + path, encoded=True), headers=headers, allow_redirects=False
    ) as response:
        return response.status, response.headers, await response.read()


async def test_files_of_a_bucket_are_served_like_plain_ones(serve, bucket, tmp_path):
    """Every kind of request gets the same answer from a bucket as from a folder."""
    wanted = [(method, "", headers) for headers, _ in CONDITIONS for method in ("GET", "HEAD")]
    wanted += [("GET", "?download=1", {}), ("HEAD", "?download=1", {}), ("GET", "", {}), ("HEAD", "", {})]
    wanted += [("GET", "?format=webp", {}), ("GET", "", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})]
    async with picture_of(serve) as (folder, plain), picture_of(serve, bucket=bucket) as (api, path):
        for method, query, headers in wanted:
            expected = await fetched(folder, method, plain + query, headers)
            found = await fetched(api, method, path + query, headers)
            assert found[0] == expected[0], (method, query, headers)
            if "problem" not in found[1].get("Content-Type", ""):
                assert found[2] == expected[2]
                for name in COMPARED:
                    assert found[1].get(name) == expected[1].get(name), (method, query, headers, name)
        _, whole, _ = await fetched(api, "GET", path)
        for condition in (whole["ETag"], whole["Last-Modified"]):
            some = await fetched(api, "GET", path, {"Range": "bytes=0-9", "If-Range": condition})
            assert (some[0], some[2]) == (206, PNG[:10])
        again = await fetched(api, "GET", path, {"If-None-Match": whole["ETag"]})
        assert (again[0], again[1]["ETag"], again[2]) == (304, whole["ETag"], b"")


@pytest.mark.long
async def test_a_large_file_is_read_in_pieces(serve, bucket):
    content = PNG + bytes(range(256)) * 12_000
    async with picture_of(serve, content, bucket=bucket) as (api, path):
        whole = await fetched(api, "GET", path)
        some = await fetched(api, "GET", path, {"Range": f"bytes=5-{2 * READ + 4}"})

    assert whole[2] == content
    assert some[2] == content[5 : 2 * READ + 5]


@pytest.mark.long
async def test_a_client_that_has_left_ends_the_download(serve, bucket):
    """A client takes the first bytes of 40 MB and leaves: the rest is not read from the object store."""
    async with (
        proxy_before(bucket.endpoint) as (proxy, url),
        picture_of(serve, LARGE, bucket=replace(bucket, endpoint=url)) as (api, path),
    ):
        before = proxy.bytes_down
        reader, writer = await api.send(f"GET {path} HTTP/1.1")
        await reader.readexactly(1000)
        writer.transport.abort()

        async def is_counted():
            _, _, text = await fetched(api, "GET", "/metrics")
            return any(b"_count" in line and b'route="/media/' in line for line in text.splitlines())

        await until(is_counted)
        assert proxy.bytes_down - before < len(LARGE) / 2


@pytest.mark.long
async def test_a_file_that_breaks_off_is_no_whole_download(serve, bucket, monkeypatch):
    async with picture_of(serve, PNG + bytes(3 * READ), bucket=bucket) as (api, path):
        read = api.media.read

        async def broken(key, *, start, length):
            if start:
                raise Unavailable("media")
            return await read(key, start=start, length=length)

        monkeypatch.setattr(api.media, "read", broken)
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetched(api, "GET", path)


@pytest.mark.long
async def test_with_a_public_endpoint_the_answer_is_a_signed_link(serve, bucket):
    """A browser follows the redirect to the public address, with whatever the api checked before."""
    host, _, port = bucket.endpoint.removeprefix("http://").partition(":")
    async with (
        proxy_to(host, int(port)) as public,
        picture_of(serve, bucket=bucket, MEDIA_PUBLIC_ENDPOINT=f"http://localhost:{public.port}") as (api, path),
    ):
        status, headers, _ = await fetched(api, "GET", path)
        again = await fetched(api, "GET", path)
        head, named = await fetched(api, "HEAD", path), await fetched(api, "GET", path + "?download=1")
        converted = await fetched(api, "GET", path + "?format=webp")
        _, page, _ = await fetched(api, "GET", "/")
        url = headers["Location"].replace("localhost", public.address.partition(":")[0])
        async with api.http.get(URL(url, encoded=True)) as picture:
            shown = (
                picture.status,
                await picture.read(),
                picture.headers["Content-Type"],
                picture.headers["Cache-Control"],
            )
        await api.media.remove([path.removeprefix("/media/")])
        known = await fetched(api, "GET", path)

    assert status == 307
    assert headers["Location"].startswith(
        f"http://localhost:{public.port}/{bucket.name}/{bucket.prefix}{path[6:]}?X-Amz-"
    )
    assert headers["Cache-Control"] == "private, max-age=300"
    assert again[1]["Location"] == headers["Location"]
    assert shown == (200, PNG, "image/png", "private, max-age=31536000, immutable")
    assert (head[0], head[1]["Content-Length"]) == (200, str(len(PNG)))
    assert (named[0], named[2], "attachment" in named[1]["Content-Disposition"]) == (200, PNG, True)
    assert (converted[0], converted[1]["Content-Type"]) == (200, "image/webp")
    assert f"img-src 'self' data: http://localhost:{public.port};" in page["Content-Security-Policy"]
    assert known[0] == 307  # for five minutes; after that it is a 404


@pytest.mark.long
async def test_a_lost_file_is_no_link(serve, bucket):
    async with picture_of(serve, bucket=bucket, MEDIA_PUBLIC_ENDPOINT="https://pictures.example.org") as (api, path):
        await api.media.remove([path.removeprefix("/media/")])
        status, _, problem = await api.ask("GET", path, allow_redirects=False)

    assert (status, problem["code"]) == (404, "file_lost")


async def test_a_link_is_signed_for_the_public_host(serve, bucket):
    """botocore, another implementation of the signature, finds the same one; the link ends after 15 minutes."""
    endpoint = "https://pictures.example.org"
    async with picture_of(serve, bucket=bucket, MEDIA_PUBLIC_ENDPOINT=endpoint) as (api, path):
        _, headers, _ = await fetched(api, "GET", path)
    parts = urlsplit(headers["Location"])
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    signature = query.pop("X-Amz-Signature")
    request = awsrequest.AWSRequest("GET", f"{endpoint}{parts.path}", params=query)
    request.context["timestamp"] = query["X-Amz-Date"]
    signer = auth.S3SigV4QueryAuth(credentials.Credentials(bucket.key, bucket.secret), "s3", "us-east-1", expires=900)
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))

    assert query["X-Amz-Expires"] == "900"
    assert query["X-Amz-SignedHeaders"] == "host"
    assert signer.signature(to_sign, request) == signature
