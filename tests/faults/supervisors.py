"""The supervisors of a round of chaos: they restart services that have ended, with odds that these die again."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import aiohttp

from tests.cluster import answers
from tests.faults.fault_cluster import FaultCluster
from tests.faults.outside_checks import Death
from tests.waiting import until

POINT_ODDS = 0.0015  # that a process dies at one point of an image; an image has about 20 points


async def supervise(
    cluster: FaultCluster, alias: str, dice: random.Random, odds: list[float], deaths: list[Death]
) -> None:
    """Restart a service whenever it has ended; `odds` holds the chance of dying at a point, 0 after the last fault."""
    service = cluster.services[alias]
    while True:
        process = service.pid
        if await service.wait(limit_s=3600) != 0:
            deaths.append(Death(process, datetime.now(UTC)))
        await asyncio.sleep(dice.uniform(0.05, 0.3))
        service.env["FAULTS"] = by_chance(odds[0], dice)
        await service.start()


async def until_ready(cluster: FaultCluster) -> None:
    """Wait until every service is ready; one may die before that and is restarted."""
    async with aiohttp.ClientSession() as http:
        for service in cluster.services.values():
            await until(partial(answers, http, str(service.ready_url)))


def by_chance(odds: float, dice: random.Random) -> str:
    return f"kill anywhere {odds} {dice.randrange(10**9)}" if odds else ""


@asynccontextmanager
async def running(cluster: FaultCluster, dice: random.Random, deaths: list[Death]) -> AsyncIterator[list[float]]:
    """Start and supervise all services; yields the odds of dying at a point, which may be changed."""
    odds = [POINT_ODDS]
    aliases = list(cluster.proxies)
    for alias in aliases:
        cluster.services[alias].env["FAULTS"] = by_chance(odds[0], dice)
    for service in cluster.services.values():
        await service.start()
    supervisors = [
        asyncio.create_task(supervise(cluster, alias, random.Random(dice.random()), odds, deaths)) for alias in aliases
    ]
    try:
        await until_ready(cluster)
        yield odds
    finally:
        for supervisor in supervisors:
            supervisor.cancel()
        await asyncio.gather(*supervisors, return_exceptions=True)
