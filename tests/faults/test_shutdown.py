"""SIGTERM during work: finished within the grace period or requeued, clients informed, exit 0."""

import asyncio
import signal
import time

import aiohttp
import pytest

from tests.cluster import ORDER, FrontEnd, embedded
from tests.faults.checker import check, until_quiet
from tests.waiting import until


async def start_services(cluster, http, *, paint_s: float, **generator: str) -> FrontEnd:
    cluster.settings["INFERENCE_TIMEOUT"] = "60"
    await cluster.add_painter(paint_s=paint_s)
    await cluster.add_service("api")
    await cluster.add_service("generator", **generator)
    await cluster.add_service("janitor")
    await cluster.start()
    return FrontEnd(http, cluster.urls["api"])


async def until_painting_begins(cluster, count: int = 1) -> None:
    """Wait until the inference service has begun so many paintings."""
    await until(lambda: len(cluster.painted("painting")) >= count)


@pytest.mark.fault(row=20)
@pytest.mark.long
async def test_a_stopping_generator_finishes_and_takes_nothing_new(cluster, http):
    page = await start_services(cluster, http, paint_s=2, GENERATOR_CONCURRENCY="1", GRACE_PERIOD="10")
    first, second = await page.order(), await page.order()
    await until_painting_begins(cluster)

    assert await cluster.services["generator"].stop() == 0

    _, image = await page.get(f"/api/images/{first['id']}/")
    assert (image["status"], image["attempts"]) == ("completed", 1)
    assert (await page.get(f"/api/images/{second['id']}/"))[1]["status"] == "queued"
    await cluster.restart("generator")
    assert (await page.final(second["id"]))["attempts"] == 1
    await until_quiet(cluster.direct_settings)
    found = await check(cluster.direct_settings, accepted=[first["id"], second["id"]], painted=cluster.painted())
    assert found.violations == []


@pytest.mark.long
@pytest.mark.fault(row=20)
async def test_work_past_the_grace_period_is_requeued_without_failure(cluster, http):
    page = await start_services(cluster, http, paint_s=3, GRACE_PERIOD="0.1")
    accepted = [(await page.order())["id"] for _ in range(2)]
    await until_painting_begins(cluster, 2)

    assert await cluster.services["generator"].stop() == 0
    _, image = await page.get(f"/api/images/{accepted[0]}/")
    assert (image["status"], image["failures"]) == ("queued", 0)
    await cluster.restart("generator")

    ended = [await page.final(image_id) for image_id in accepted]
    assert [(image["status"], image["attempts"], image["failures"]) for image in ended] == [("completed", 2, 0)] * 2
    await until_quiet(cluster.direct_settings)
    assert (await check(cluster.direct_settings, accepted=accepted, painted=cluster.painted())).violations == []


async def test_a_stopping_api_answers_waiters_and_closes_websockets(cluster, http):
    page = await start_services(cluster, http, paint_s=5, GRACE_PERIOD="0.3")
    async with http.ws_connect(f"{page.url}/ws") as socket:
        await socket.receive()
        waiting = asyncio.create_task(page.post("/v1/images/generations", ORDER))
        await until_painting_begins(cluster)

        assert await cluster.services["api"].stop() == 0

        status, image = await waiting
        assert (status, image["status"]) == (202, "running")
        while (closed := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert await cluster.services["janitor"].stop() == 0
    assert await cluster.services["inference"].stop() == 0


@pytest.mark.parametrize(("grace_s", "status"), [("10", "completed"), ("0.3", "queued")])
async def test_up_finishes_or_requeues_and_closes_websockets(tmp_path, http, grace_s, status):
    async with embedded(tmp_path, PAINTER_STEP_DELAY="0.1", GRACE_PERIOD=grace_s) as cluster:
        page = FrontEnd(http, cluster.url)
        async with http.ws_connect(f"{cluster.url}/ws") as socket:
            image = await page.order(steps=15 if status == "completed" else 100)
            while "image.progress" not in (await socket.receive()).data:
                pass

            assert await cluster.services["up"].stop() == 0

            while (closed := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert closed.data == 1001
        await cluster.services["up"].start()
        await cluster.services["up"].ready()
        _, record = await page.get(f"/api/images/{image['id']}/")
        assert record["attempts"] >= 1
        assert (record["status"] == "completed") == (status == "completed")
        assert "Traceback" not in cluster.services["up"].log


async def test_a_second_signal_stops_at_once(cluster, http):
    page = await start_services(cluster, http, paint_s=20, GRACE_PERIOD="60")
    await page.order()
    await until_painting_begins(cluster)
    generator = cluster.services["generator"]
    generator.signal(signal.SIGTERM)
    await until(lambda: "finishing 1 images" in generator.log)
    began = time.monotonic()

    generator.signal(signal.SIGTERM)

    assert await generator.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2
