"""A request for several images, sent again and again to an api that is killed in the middle of it."""

import asyncio
from contextlib import suppress

import aiohttp
import pytest

from tests.cluster import FrontEnd
from tests.faults.checker import check, records_in, until_quiet
from tests.faults.follower import following

COUNT, SENDS = 8, 20
BODY = {"prompt": "a lighthouse", "width": 64, "height": 64, "seed": 7, "num_images": COUNT}
HEADERS = {"Prefer": "respond-async", "Idempotency-Key": "one-batch"}
# the first is recorded, and one more at each of the next; then the mark is cleared, and the images are sent
FAULTS = ("after record 1", "after record 2", "before record 2", "before again 1", "after again 1", "before send 1")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.fault(row=48)
@pytest.mark.timeout(120)
async def test_one_key_makes_one_batch(cluster, http):
    """Two images may be dispatched at once. Each time the api dies elsewhere; a second one shows the events."""
    await cluster.add_painter(paint_s=0.02)
    for name in ("generator", "janitor"):
        await cluster.add_service(name, CONCURRENT_REQUESTS="2")
    await cluster.add_service("api", CONCURRENT_REQUESTS="2")
    await cluster.add_service("api", alias="shown", CONCURRENT_REQUESTS="2")
    await cluster.start()
    await cluster.services["api"].kill()
    page = FrontEnd(http, cluster.urls["api"])
    answers = []
    async with following(http, [cluster.urls["shown"]]) as follower:
        for number in range(SENDS):
            await cluster.restart("api", f"kill {FAULTS[number % len(FAULTS)]}")
            with suppress(aiohttp.ClientError):
                answers.append(await page.post("/v1/images/generations", BODY, **HEADERS))
            await cluster.services["api"].kill()
        status, last = await FrontEnd(http, cluster.urls["shown"]).post("/v1/images/generations", BODY, **HEADERS)

        accepted = [image["id"] for image in last["images"]]
        assert (status in {201, 202}, len(set(accepted))) == (True, COUNT)
        assert {tuple(image["id"] for image in answer["images"]) for _, answer in answers} <= {tuple(accepted)}
        assert cluster.faults["SIGKILL after record"] >= 1
        assert cluster.faults.total() + len(answers) == SENDS
        await until_quiet(cluster.direct_settings)
        async with asyncio.timeout(15):
            for image_id in accepted:
                await follower.until_final(image_id).wait()
        found = await check(
            cluster.direct_settings, accepted=accepted, shown=follower.shown, painted=cluster.painted(), deadline_s=60
        )

    records = await records_in(cluster.direct_settings, accepted)
    assert found.violations == []
    assert set(records) == set(accepted)
    assert {image.status for image in records.values()} == {"completed"}
    assert sorted(image.parameters.seed for image in records.values()) == list(range(7, 7 + COUNT))
    assert follower.shown.events == {(image_id, "image.completed"): 1 for image_id in accepted}
