"""Outages of broker, store and inference service under load: no accepted request is lost."""

from functools import partial

import pytest

from tests.cluster import ORDER, FrontEnd
from tests.faults.checker import check, until_quiet
from tests.faults.fault_cluster import fault_cluster
from tests.faults.outage import outage
from tests.proxy import proxy_before
from tests.waiting import until


@pytest.mark.long  # tests/faults/bus/test_broker.py stops and kills a broker in each run
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.fault(row=1)
@pytest.mark.fault(row=2)
async def test_a_broker_killed_under_load_costs_no_order(tmp_path, http, own_rabbitmq):
    async with fault_cluster(tmp_path, own_rabbitmq.fresh_vhost()) as cluster:
        cluster.settings["GENERATOR_CONCURRENCY"] = "8"  # the backlog is processed quickly
        result = await outage(cluster, http, own_rabbitmq, how="kill", seconds=0.5)  # plus the 7 s of its restart

    assert result.findings.violations == []
    assert set(result.statuses) <= {202, 503}
    assert result.statuses[202] > 20


@pytest.mark.long
@pytest.mark.timeout(150)
@pytest.mark.fault(row=41)
async def test_an_unavailable_store_refuses_orders_and_loses_none(tmp_path, vhost, database, http):
    async with proxy_before(database) as (line, url), fault_cluster(tmp_path, vhost, STORE_URL=database) as cluster:
        await cluster.add_painter(paint_s=1.0)
        for name in ("api", "generator", "janitor"):
            await cluster.add_service(name, STORE_URL=url, STORE_TIMEOUT="1")  # the checker bypasses the proxy
        await cluster.start()
        page = FrontEnd(http, cluster.urls["api"])
        accepted = [(await page.order())["id"] for _ in range(3)]

        line.refuse()
        status, problem = await page.post("/v1/images/generations", ORDER, Prefer="respond-async")
        assert (status, problem["code"]) == (503, "unavailable")
        assert (await page.get("/readyz"))[0] == 503
        await until(lambda: "waiting for the store" in cluster.services["generator"].log)
        await line.listen()

        for image_id in accepted:
            await until(partial(is_completed, page, image_id), limit_s=60, pause_s=0.1)
        await until_quiet(cluster.direct_settings)
        found = await check(cluster.direct_settings, accepted=accepted, painted=cluster.painted())
    assert found.violations == []


async def is_completed(page: FrontEnd, image_id: str) -> bool:
    _, image = await page.get(f"/api/images/{image_id}/")
    return image.get("status") == "completed"


@pytest.mark.long
@pytest.mark.fault(row=30)
async def test_a_circuit_opens_on_a_dead_service_and_closes_again(cluster, http):
    await cluster.add_painter(paint_s=0.02)
    await cluster.add_service("api")
    await cluster.add_service("generator")
    await cluster.add_service("janitor")
    await cluster.start()
    page = FrontEnd(http, cluster.urls["api"])
    cluster.inference_proxies["generator"].refuse()

    accepted = [(await page.order())["id"] for _ in range(10)]
    await until(lambda: "it gets no work until it answers" in cluster.services["generator"].log)
    await cluster.inference_proxies["generator"].listen()

    images = [await page.final(image_id) for image_id in accepted]
    assert [(image["status"], image["failures"]) for image in images] == [("completed", 0)] * 10
    assert sum(image["attempts"] - 1 for image in images) <= 4  # the images in progress when it failed, not the queue
