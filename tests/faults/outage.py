"""An outage of the broker under a steady load of requests."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import aiohttp

from tests.cluster import ORDER, FrontEnd
from tests.faults.checker import Findings, check, until_quiet
from tests.faults.fault_cluster import FaultCluster
from tests.faults.follower import following
from tests.servers.rabbitmq import RabbitMQ
from tests.waiting import LIMIT_S, until

PACE_S = 0.1


class SteadyOrders:
    """Requests at a steady pace, without retries; a refusal must be a 503 `unavailable`."""

    def __init__(self, page: FrontEnd) -> None:
        self.accepted: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.slowest_s = 0.0
        self._page = page
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._order())
                await asyncio.sleep(PACE_S)

    async def _order(self) -> None:
        began = time.monotonic()
        status, image = await self._page.post("/v1/images/generations", ORDER, Prefer="respond-async")
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.statuses[status] += 1
        if status == 202:
            self.accepted.append(image["id"])
        else:
            assert (status, image["code"]) == (503, "unavailable")

    async def answered(self, count: int) -> None:
        """Wait for `count` more answers."""
        enough = self.statuses.total() + count
        await until(lambda: self.statuses.total() >= enough or self._task.done(), limit_s=LIMIT_S + 3 * count * PACE_S)
        if self._task.done():
            self._task.result()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@dataclass
class OutageResult:
    """Answers during an outage, recovery time and findings."""

    statuses: Counter[int]
    during: int
    slowest_answer_s: float
    recovered_after_s: float
    findings: Findings


async def outage(
    cluster: FaultCluster, http: aiohttp.ClientSession, broker: RabbitMQ, *, how: str, seconds: float
) -> OutageResult:
    """Stop or kill the broker under load, start it again after `seconds`, then check everything."""
    await cluster.add_painter(paint_s=0.05)
    for name in ("api", "generator", "janitor"):
        await cluster.add_service(name, BUS_TIMEOUT="1")
    await cluster.start()
    page = FrontEnd(http, cluster.urls["api"])
    async with following(http, list(cluster.urls.values())) as follower:
        orders = SteadyOrders(page)
        await orders.answered(10)
        before = orders.statuses.total()
        await asyncio.to_thread(broker.stop if how == "stop" else broker.kill)
        await orders.answered(int(seconds / PACE_S))
        assert (await page.get("/readyz"))[0] == 503
        await asyncio.to_thread(broker.start)
        during, up_at = orders.statuses.total() - before, time.monotonic()
        await orders.answered(10)
        await orders.end()
        await until_quiet(cluster.direct_settings, 60)
        for image_id in orders.accepted:
            async with asyncio.timeout(60):
                await follower.until_final(image_id).wait()
        recovered_s = time.monotonic() - up_at
        found = await check(
            cluster.direct_settings, accepted=orders.accepted, shown=follower.shown, painted=cluster.painted()
        )
    return OutageResult(orders.statuses, during, orders.slowest_s, recovered_s, found)
