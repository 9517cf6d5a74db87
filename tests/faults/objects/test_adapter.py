"""The object store of the media fails: slow, overloaded, cut off, without rights, with another time."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from common.domain.errors import Misconfigured, NotAccepted, Unavailable
from common.media.connect import open_media
from common.media.objects.client import RETRIES
from tests.proxy import proxy_before
from tests.servers.object_proxy import SLOW_DOWN, proxy_before_store
from tests.waiting import until

pytestmark = pytest.mark.long
KEY = "generated_images/2025/01/019469d5-ae18-75ea-918b-6782d8deb53d.png"
LARGE = bytes(range(256)) * 16_000  # 4 MB
TIMEOUT_S = 20.0  # of a busy machine
SHORT_S = 2.0


@asynccontextmanager
async def opened(bucket, **more):
    async with open_media(bucket.root, bucket.settings(**{"media_timeout": TIMEOUT_S, **more})) as media:
        yield media


@asynccontextmanager
async def behind_wire(bucket, **more):
    """The media through a proxy of the network, and the media without it."""
    async with (
        proxy_before(bucket.endpoint) as (proxy, url),
        opened(bucket) as direct,
        opened(replace(bucket, endpoint=url), **more) as media,
    ):
        yield proxy, media, direct


@asynccontextmanager
async def behind_errors(bucket):
    """The media through a proxy that answers with errors."""
    async with proxy_before_store(bucket) as (proxy, through), opened(through) as media:
        yield proxy, media


async def _is_ready(media):
    with suppress(Unavailable):
        await media.check()
        return True
    return False


def _is_above(proxy, count):
    return proxy.bytes_down > count


# ---------------------------------------------------------------- the network


async def test_a_slow_store_is_waited_for(bucket):
    async with behind_wire(bucket) as (proxy, media, _):
        proxy.delay_s = 0.1

        await media.put(KEY, b"x")

        assert await media.get(KEY) == b"x"


async def test_a_silent_store_is_unavailable(bucket):
    async with behind_wire(bucket, media_timeout=SHORT_S) as (proxy, media, _):
        proxy.silence()
        asked = [media.get(KEY), media.put(KEY, b"x"), media.exists([KEY]), media.check(), media.version(KEY)]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, Unavailable)
            assert "does not answer within MEDIA_TIMEOUT" in error.detail
        proxy.resume()

        await until(partial(_is_ready, media))


async def test_a_store_that_is_down_is_unavailable(bucket):
    async with behind_wire(bucket) as (proxy, media, _):
        proxy.refuse()
        with pytest.raises(Unavailable, match="cannot be reached: is it running, and AWS_ENDPOINT_URL right"):
            await media.check()
        with pytest.raises(Unavailable, match="cannot be reached"):
            _ = [page async for page in media.walk()]
        await proxy.listen()

        await until(partial(_is_ready, media))


async def test_an_answer_that_breaks_off_is_no_picture(bucket):
    """A picture is read while the connection is cut in its middle, again and again."""
    async with behind_wire(bucket) as (proxy, media, direct):
        await direct.put(KEY, LARGE)
        proxy.delay_s, seen = 0.002, [LARGE]
        for _ in range(5):
            reading, enough = asyncio.create_task(media.get(KEY)), proxy.bytes_down + 500_000
            await until(partial(_is_above, proxy, enough), pause_s=0.001)
            proxy.cut()
            with suppress(Unavailable):
                seen.append(await reading)
        proxy.delay_s = 0

        assert set(seen) == {LARGE}
        assert await media.get(KEY) == LARGE


async def half_written(proxy, media):
    proxy.delay_s = 0.002
    writing = asyncio.create_task(media.put(KEY, LARGE))
    await until(lambda: proxy.bytes_up > 500_000, pause_s=0.001)
    return writing


async def test_an_upload_that_breaks_off_is_sent_again(bucket):
    async with behind_wire(bucket) as (proxy, media, direct):
        writing = await half_written(proxy, media)
        proxy.cut()
        await writing

        assert await direct.get(KEY) == LARGE


async def test_an_upload_that_is_cut_for_good_leaves_nothing(bucket):
    async with behind_wire(bucket) as (proxy, media, direct):
        writing = await half_written(proxy, media)
        proxy.refuse()
        with pytest.raises(Unavailable, match="the object store"):
            await writing

        assert await direct.get(KEY) is None
        assert [page async for page in direct.walk()] == []


async def test_a_cancelled_upload_ends_before_its_caller(bucket):
    """The upload is held back by the network when its caller is cancelled; the caller waits for its end."""
    async with behind_wire(bucket) as (proxy, media, direct):
        before = proxy.bytes_up
        proxy.delay_s = 0.002
        writing = asyncio.create_task(media.put(KEY, LARGE))
        await until(lambda: proxy.bytes_up > before + 500_000, pause_s=0.001)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        there = await direct.get(KEY)
        await direct.remove([KEY])
        await media.check()

        assert there == LARGE
        assert await direct.get(KEY) is None


# ---------------------------------------------------------------- answers


async def test_an_overloaded_store_is_asked_again(bucket):
    async with behind_errors(bucket) as (proxy, media):
        proxy.errors += [SLOW_DOWN] * RETRIES
        await media.put(KEY, b"x")
        proxy.errors += [(500, "InternalError")]

        assert await media.get(KEY) == b"x"


async def test_retries_end(bucket):
    async with behind_errors(bucket) as (proxy, media):
        proxy.always, before = SLOW_DOWN, len(proxy.requests)
        with pytest.raises(Unavailable, match=r"overloaded or starting \(503 SlowDown\): wait"):
            await media.get(KEY)

        assert 2 <= len(proxy.requests) - before <= RETRIES + 1


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ((403, "InvalidAccessKeyId"), "check AWS_ACCESS_KEY_ID"),
        ((403, "SignatureDoesNotMatch"), "check AWS_SECRET_ACCESS_KEY"),
        ((403, "AccessDenied"), "s3:PutObject"),
        ((400, "ExpiredToken"), "AWS_SESSION_TOKEN"),
        ((403, "RequestTimeTooSkewed"), "the clock of this machine"),
        ((301, "PermanentRedirect"), "set AWS_REGION"),
        ((400, "AuthorizationHeaderMalformed"), "set AWS_REGION"),
        ((404, "NoSuchBucket"), "correct MEDIA_ROOT"),
        ((507, "XMinioStorageFull"), "RETENTION_DAYS"),
        ((403, "SomethingNew"), "check the keys"),
    ],
    ids=str,
)
async def test_a_refusal_says_what_to_do(bucket, error, advice):
    """Every method says it, and the start refuses."""
    async with behind_errors(bucket) as (proxy, media):
        await media.mark("a-store")
        proxy.always = error
        asked = [media.get(KEY), media.put(KEY, b"x"), media.remove([KEY]), media.check(), media.marker()]
        for asking in asked:
            with pytest.raises(NotAccepted) as refused:
                await asking
            assert advice in refused.value.detail
        with pytest.raises(NotAccepted):
            _ = [page async for page in media.walk()]
        with pytest.raises(Unavailable):
            await media.exists([KEY])
        with pytest.raises(Unavailable):
            await media.version(KEY)

        with pytest.raises(Misconfigured, match="MEDIA_ROOT: ") as wrong:
            async with opened(replace(bucket, endpoint=f"http://127.0.0.1:{proxy.port}")):
                pass
    assert advice in wrong.value.detail


async def test_a_failure_ends_the_time_of_a_check(bucket):
    async with behind_errors(bucket) as (proxy, media):
        await media.check()
        before = len(proxy.requests)
        await media.check()
        assert len(proxy.requests) == before
        proxy.always = 403, "AccessDenied"
        with pytest.raises(NotAccepted):
            await media.put(KEY, b"x")

        with pytest.raises(NotAccepted):
            await media.check()


async def test_a_clock_that_is_off_is_named(bucket):
    async with behind_errors(bucket) as (proxy, media):
        proxy.ahead = timedelta(minutes=16)
        with pytest.raises(NotAccepted, match=r"RequestTimeTooSkewed\): the clock of this machine differs"):
            await media.check()
        proxy.ahead = timedelta(minutes=14)

        await media.check()


async def test_a_bucket_that_is_gone_looks_like_no_lost_file(bucket, object_store):
    async with opened(bucket) as media:
        object_store.remove_bucket(bucket)

        for asking in (media.exists([KEY]), media.exists([KEY] * 30), media.get(KEY), media.version(KEY)):
            with pytest.raises(NotAccepted, match="the bucket does not exist: make it, or correct MEDIA_ROOT"):
                await asking


async def test_an_empty_prefix_is_not_ready(bucket):
    """The marker is gone: MEDIA_ROOT is another prefix, or somebody has emptied it."""
    async with opened(bucket) as media:
        await media.mark("a-store")
        async with open_media(bucket.root, bucket.settings()) as other:
            await other.mark("another")

        with pytest.raises(Unavailable, match="does not hold the marker of this store: is MEDIA_ROOT right"):
            await media.check()


# ---------------------------------------------------------------- keys


@pytest.fixture
def checked(object_store):
    """The object store checks keys while the test runs."""
    yield object_store
    object_store.check_no_keys()


async def test_a_key_with_the_rights_can_do_everything(bucket, checked):
    rights = ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject")
    key, secret = checked.make_key(*rights)

    async with opened(replace(bucket, key=key, secret=secret)) as media:
        await media.mark("a-store")
        await media.put(KEY, b"x")
        await media.check()
        assert [[file.key for file in page] async for page in media.walk()] == [[KEY]]
        assert await media.exists([KEY]) == {KEY}
        await media.remove([KEY])


@pytest.mark.parametrize(
    ("rights", "wrong", "advice"),
    [
        (["s3:GetObject", "s3:ListBucket"], {}, "the access key lacks a right"),
        (["s3:*"], {"secret": "another"}, "check AWS_SECRET_ACCESS_KEY"),
        (["s3:*"], {"key": "AKIAUNKNOWN"}, "check AWS_ACCESS_KEY_ID"),
    ],
    ids=["no-right", "secret", "key"],
)
async def test_wrong_keys_refuse_the_start(bucket, checked, rights, wrong, advice):
    key, secret = checked.make_key(*rights)

    with pytest.raises(Misconfigured, match=advice) as refused:
        async with opened(replace(bucket, **{"key": key, "secret": secret, **wrong})):
            pass

    assert refused.value.detail.startswith("MEDIA_ROOT: media is unavailable: the object store refuses")
    assert secret not in refused.value.detail


async def test_one_half_of_a_key_refuses_the_start(bucket):
    for half in ({"aws_access_key_id": None}, {"aws_secret_access_key": None}):
        with pytest.raises(Misconfigured, match="set both or none"):
            async with opened(bucket, **half):
                pass


async def test_a_missing_file_of_certificates_refuses_the_start(bucket, tmp_path):
    with pytest.raises(Misconfigured, match="AWS_CA_BUNDLE: the file cannot be read: No such file"):
        async with opened(bucket, aws_ca_bundle=str(tmp_path / "missing.pem")):
            pass
