"""Processes that are killed or stopped at every named point of an image's life.

One process for each point, each with one image at a time, so that many deaths take one recovery.
"""

import asyncio
import itertools
import signal
from contextlib import suppress

import aiohttp
import pytest

from common.domain.images import new_image_id
from common.messages import Tick, TickData
from common.runtime.clock import SystemClock
from tests.cluster import FrontEnd
from tests.faults.checker import check, until_quiet
from tests.faults.fault_cluster import FaultCluster
from tests.faults.follower import following
from tests.waiting import until

PAINTING = ("claim", "started", "answer", "file", "thumbnail", "complete", "event", "noted", "ack", "again", "failed")
ORDERING = ("record", "queued", "send", "sent")
DELETING = ("mark", "unlink", "event", "tombstone")
PROMPTS = ("a lighthouse", "busy at first", "refuse this", "busy at first")


def both_sides(points):
    return [(when, point) for point in points for when in ("before", "after")]


async def start_with_faults(cluster: FaultCluster, service: str, faults: list[str], **settings: str) -> list[str]:
    """Start one process of the service for each fault, one of each other service; returns the aliases of the faulty."""
    await cluster.add_painter(paint_s=0.02)
    for other in {"api", "generator", "janitor"} - {service}:
        await cluster.add_service(other)
    for fault in faults:
        await cluster.add_service(service, alias=fault.replace(" ", "-"), FAULTS=fault, **settings)
    await cluster.start()
    return [fault.replace(" ", "-") for fault in faults]


async def check_promises(cluster: FaultCluster, follower, accepted, deleted=()) -> None:
    await until_quiet(cluster.direct_settings)
    async with asyncio.timeout(60):
        for image_id in accepted:
            await follower.until_final(image_id).wait()
    await cluster.sweep()
    found = await check(
        cluster.direct_settings,
        accepted=accepted,
        deleted=deleted,
        shown=follower.shown,
        painted=cluster.painted(),
        deadline_s=60,
    )
    assert found.violations == []


async def order_until(page: FrontEnd, is_going, accepted: list[str]) -> None:
    """Request images until every faulty process has reached its point."""
    prompts = itertools.cycle(PROMPTS)
    async with asyncio.timeout(60):
        while is_going():
            accepted.append((await page.order(prompt=next(prompts)))["id"])
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(PAINTING[:6], id="up to the record"),
        pytest.param(PAINTING[6:], id="after it"),
    ],
)
@pytest.mark.fault(row=18)
@pytest.mark.fault(row=23)
@pytest.mark.fault(row=24)
@pytest.mark.fault(row=25)
@pytest.mark.long
async def test_a_generator_killed_at_any_point_loses_nothing(cluster, http, points):
    faults = [f"kill {when} {point}" for when, point in both_sides(points)]
    faulty = await start_with_faults(cluster, "generator", faults, GENERATOR_CONCURRENCY="1")
    async with following(http, list(cluster.urls.values())) as follower:
        accepted: list[str] = []
        page = FrontEnd(http, cluster.urls["api"])

        await order_until(page, lambda: any(cluster.services[alias].is_running for alias in faulty), accepted)
        assert cluster.faults == {fault.replace("kill", "SIGKILL"): 1 for fault in faults}
        for alias in faulty[:2]:
            await cluster.restart(alias)

        await check_promises(cluster, follower, accepted)


@pytest.mark.long
@pytest.mark.fault(row=19)
@pytest.mark.fault(row=21)
async def test_a_generator_stopped_past_its_lease_changes_nothing(cluster, http):
    points = [(when, point) for when, point in both_sides(PAINTING) if point not in {"noted", "ack", "failed"}]
    faults = [f"stop {when} {point}" for when, point in points]
    # no announcement at the moment of a stop: a process that is stopped while it writes keeps SQLite locked
    quiet = {"GENERATOR_CONCURRENCY": "1", "HEARTBEAT": "10", "ANNOUNCE_INTERVAL": "3600"}
    faulty = await start_with_faults(cluster, "generator", faults, **quiet)
    for _ in range(2):
        await cluster.add_service("generator", alias=f"healthy-{len(cluster.services)}")
    async with following(http, list(cluster.urls.values())) as follower:
        accepted: list[str] = []
        page = FrontEnd(http, cluster.urls["api"])

        await order_until(page, lambda: any(not cluster.is_stopped(alias) for alias in faulty), accepted)
        for alias in [alias for alias in cluster.services if alias.startswith("healthy")]:
            await cluster.restart(alias)
        for image_id in accepted:
            await page.final(image_id)
        for alias in faulty:
            cluster.services[alias].signal(signal.SIGCONT)
        assert set(await asyncio.gather(*(cluster.services[alias].stop() for alias in faulty))) == {0}

        await check_promises(cluster, follower, accepted)


@pytest.mark.long
async def test_an_api_killed_at_any_point_keeps_its_promises(cluster, http):
    ordering = [f"kill {when} {point}" for when, point in both_sides(ORDERING)]
    deleting = [f"kill {when} {point}" for when, point in both_sides(DELETING)]
    await start_with_faults(cluster, "api", [*ordering, *deleting])
    await cluster.add_service("api")
    await cluster.restart("api")
    page = FrontEnd(http, cluster.urls["api"])
    async with following(http, [cluster.urls["api"]]) as follower:
        cluster.services["generator"].signal(
            signal.SIGSTOP
        )  # a command that is claimed at once would not be recorded as sent
        accepted = [
            await order_twice(cluster, http, fault.replace(" ", "-"), page, f"key-{number}")
            for number, fault in enumerate(ordering)
        ]
        cluster.services["generator"].signal(signal.SIGCONT)
        for image_id in accepted:
            await page.final(image_id)
        for fault, image_id in zip(deleting, accepted, strict=True):
            alias = fault.replace(" ", "-")
            with pytest.raises(aiohttp.ClientError):
                await FrontEnd(http, cluster.urls[alias]).ask("DELETE", f"/api/images/{image_id}/")
            status, _ = await page.ask("DELETE", f"/api/images/{image_id}/")
            assert status in {204, 404}

        assert sum(cluster.faults.values()) == len(ordering) + len(deleting)
        await check_promises(cluster, follower, accepted, deleted=accepted)


async def order_twice(
    cluster: FaultCluster, http: aiohttp.ClientSession, faulty: str, healthy: FrontEnd, key: str
) -> str:
    """Request from an api that dies during the request, then from a healthy one with the same key."""
    headers = {"Prefer": "respond-async", "Idempotency-Key": key}
    body = {"prompt": "a lighthouse", "width": 64, "height": 64}
    answered = []
    with suppress(aiohttp.ClientError):
        answered.append(await FrontEnd(http, cluster.urls[faulty]).post("/v1/images/generations", body, **headers))
    # `sent` is recorded after the answer
    assert [status for status, _ in answered] == ([202] if faulty.endswith("sent") else [])
    await until(lambda: not cluster.services[faulty].is_running)
    status, image = await healthy.post("/v1/images/generations", body, **headers)
    assert status == 202
    assert all(first["id"] == image["id"] for _, first in answered)
    return image["id"]


@pytest.mark.long
@pytest.mark.fault(row=50)
@pytest.mark.fault(row=54)
async def test_a_janitor_killed_during_a_purge_leaves_nothing_behind(cluster, http):
    faults = [f"kill {when} {point}" for when, point in both_sides(DELETING)]
    faulty = await start_with_faults(cluster, "janitor", faults, PURGE_BATCH="2")
    page = FrontEnd(http, cluster.urls["api"])
    async with following(http, list(cluster.urls.values())) as follower:
        accepted: list[str] = []

        async with asyncio.timeout(60):
            while any(cluster.services[alias].is_running for alias in faulty):
                images = [(await page.order())["id"] for _ in range(4)]
                for image_id in images:
                    await follower.until_final(image_id).wait()
                accepted.extend(images)
                await purge(cluster)
        await cluster.restart(faulty[0])
        await purge(cluster)

        assert sum(cluster.faults.values()) == len(faults)
        await check_promises(cluster, follower, accepted, deleted=accepted)


async def purge(cluster: FaultCluster) -> None:
    """Send a tick by which every final image is old enough."""
    now = SystemClock().now()
    async with cluster.bus() as bus:
        await bus.tick(
            Tick(id=new_image_id(now), source="test", type="timer.purge", time=now, data=TickData(older_than=0))
        )
