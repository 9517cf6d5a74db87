"""Services whose media are in an object store, while it fails."""

from dataclasses import replace

import pytest

from tests.cluster import Cluster, embedded, front_end, running
from tests.proxy import proxy_before
from tests.servers.object_proxy import SLOW_DOWN, proxy_before_store
from tests.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]
FAST = {"MEDIA_TIMEOUT": "1"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SLOW_DOWN, "the object store is overloaded"), ((403, "AccessDenied"), "the access key lacks a right")],
    ids=["overloaded", "no-right"],
)
async def test_no_image_fails_while_the_store_does(tmp_path, bucket, error, reason):
    """An image is ordered while the object store refuses: it waits, `/readyz` says why; it is painted later."""
    async with (
        proxy_before_store(bucket) as (proxy, through),
        embedded(tmp_path, **through.environment, **FAST) as cluster,
        front_end(cluster.url) as page,
    ):
        first = await page.final((await page.order())["id"])
        proxy.always = error
        waiting = await page.order(seed=8)

        async def is_unready():
            status, report = await page.get("/readyz")
            return status == 503 and reason in report["trouble"].get("media", "")

        await until(is_unready)
        await until(
            lambda: "the media cannot be written: no work is taken until they can" in cluster.services["up"].log
        )
        status, problem = await page.get(first["imageUrl"])
        assert (status, problem["code"]) == (503, "unavailable")
        assert reason in problem["detail"]
        assert (await page.get(f"/api/images/{waiting['id']}/"))[1]["status"] in {"queued", "running"}
        proxy.always = None
        done = await page.final(waiting["id"])

        assert done["status"] == "completed"
        assert len(await page.bytes(done["imageUrl"])) > 100
        assert (await page.get("/readyz"))[0] == 200


async def test_a_service_waits_for_its_object_store(tmp_path, bucket):
    """A service starts before the object store is up."""
    async with proxy_before(bucket.endpoint) as (proxy, url):
        proxy.refuse()
        through = replace(bucket, endpoint=url)
        cluster = Cluster(tmp_path, **through.environment, **FAST)
        service = cluster.add("up")
        await service.start()
        try:
            await until(lambda: f"waiting for the media in {bucket.root}: media is unavailable" in service.log)
            await proxy.listen()
            await service.ready()
        finally:
            await cluster.kill()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"MEDIA_ROOT": "s3://nobody-has-made-this/x"}, "the bucket does not exist: make it, or correct MEDIA_ROOT"),
        ({"MEDIA_ROOT": "s3://Wrong_Name"}, "MEDIA_ROOT: must be s3://bucket/prefix"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set both or none"),
        ({"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL"),
    ],
    ids=["bucket", "form", "half", "url"],
)
async def test_a_wrong_setting_ends_the_start(tmp_path, bucket, changed, reason):
    cluster = Cluster(tmp_path, **{**bucket.environment, **changed})
    service = cluster.add("up")
    await service.start()
    try:
        assert await service.wait() > 0
    finally:
        await cluster.kill()

    assert reason in service.log
    assert "Traceback" not in service.log


async def test_a_bucket_of_another_store_is_refused(tmp_path, bucket):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with running(_cluster(tmp_path / "one", bucket)):
        pass
    other = _cluster(tmp_path / "two", bucket)
    service = other.services["up"]
    await service.start()
    try:
        assert await service.wait() > 0
    finally:
        await other.kill()

    assert "the media belong to another store" in service.log


def _cluster(folder, bucket):
    cluster = Cluster(folder, **bucket.environment)
    cluster.add("up")
    return cluster
