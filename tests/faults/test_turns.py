"""The limits of one owner over two apis, while processes are killed: never more at once, none lost, none stuck."""

import asyncio
import random
import signal
from contextlib import suppress
from itertools import cycle

import aiohttp
import pytest

from tests.faults.chaos_client import ChaosClient
from tests.faults.checker import check, until_quiet
from tests.faults.fault_cluster import FaultCluster, fault_cluster
from tests.faults.turn_watch import TurnWatch
from tests.waiting import until

SLOTS = 2
LIMITS = {"REQUESTS_PER_HOUR": "0", "CONCURRENT_REQUESTS": str(SLOTS), "WAITING_REQUESTS": "400"}
# a janitor that is killed comes back within a second, and reconciles each second; the leases here take 2 s
IDLE_S = 12.0


async def _kill(cluster: FaultCluster, dice: random.Random, *, pause_s: float) -> None:
    """Kill one process after another, and start it again, until cancelled."""
    aliases = list(cluster.proxies)
    dice.shuffle(aliases)
    for alias in cycle(aliases):
        await asyncio.sleep(dice.uniform(0.5, 1.5) * pause_s)
        service = cluster.services[alias]
        service.signal(signal.SIGKILL)
        await service.wait()
        await service.start()


@pytest.mark.parametrize(
    ("jobs", "pause_s", "seed"),
    [
        pytest.param(16, 0.8, 1, id="short"),
        *(pytest.param(300, 0.7, seed, id=f"300-{seed}", marks=pytest.mark.long) for seed in (1, 2, 3)),
    ],
)
@pytest.mark.slow
@pytest.mark.timeout(480)  # of the long ones: two minutes on two free cores
async def test_simultaneous_posts_keep_the_limits_under_kills(tmp_path, vhost, jobs, pause_s, seed):
    """All requests are sent at once to two apis, each with a key; apis, generators and the janitor are killed."""
    dice = random.Random(seed)
    async with fault_cluster(tmp_path, vhost, **LIMITS) as cluster:
        await cluster.add_painter(paint_s=0.02)
        for name, alias in (("api", "api-1"), ("api", "api-2"), ("generator", "g-1"), ("generator", "g-2")):
            await cluster.add_service(name, alias=alias)
        await cluster.add_service("janitor")
        await cluster.start()
        watch = TurnWatch(SLOTS)
        watching = asyncio.create_task(watch.run(cluster.direct_settings))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            client = ChaosClient(http, list(cluster.urls.values()), dice)
            killing = asyncio.create_task(_kill(cluster, dice, pause_s=pause_s))
            await asyncio.gather(*(client.accept(number) for number in range(jobs)))
            with suppress(TimeoutError):
                await until(lambda: watch.looks and cluster.painted().total() >= jobs * 3 // 4, limit_s=300)
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing
            for service in cluster.services.values():
                if not service.is_running:
                    await service.start()
            await until_quiet(cluster.direct_settings, limit_s=150)
        watching.cancel()
        await asyncio.wait([watching])
        await cluster.sweep()
        found = await check(
            cluster.direct_settings, accepted=client.requested, painted=cluster.painted(), deadline_s=600
        )

    assert len(set(client.accepted.values())) == jobs
    assert [*client.duplicates, *found.violations, *watch.violations(idle_s=IDLE_S)] == []
    assert (watch.most_dispatched, watch.most_waiting > jobs // 3) == (SLOTS, True)
