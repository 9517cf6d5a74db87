"""A round of chaos: requests, cancels, deletes against kills, stops, disconnects; then the checker.

    ChaosClient ── requests with a key each, retries until answered, cancels some, deletes some, follows two websockets
    Disturbances ─ break something chosen by chance, one after another
    Outside ── a foreign publisher, a listener's queue that refuses, media that fail, and odd answers of the painter
    supervisors ── restart processes that have ended, as an orchestrator does; each process also dies by chance at any
                   point of an image's life

The seed fixes what is drawn (what breaks, when, what is ordered); how the processes interleave stays the machine's.
"""

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from common.domain.images import Status
from tests.faults.chaos_client import ChaosClient
from tests.faults.chaos_report import Report
from tests.faults.checker import FOREIGN_MARK, check, until_quiet
from tests.faults.disturbances import Disturbances
from tests.faults.fault_cluster import FaultCluster, fault_cluster
from tests.faults.outside import Outside, publisher_url
from tests.faults.outside_checks import Death, check_foreign, files_left
from tests.faults.supervisors import running
from tests.faults.turn_watch import TurnWatch
from tests.media_folder import files_in
from tests.servers.rabbitmq import RabbitMQ
from tests.waiting import until

JANITORS, APIS = 2, 2
POOLS = {"default": ("sdxl", 2), "flux": ("flux", 2)}  # the model of each pool, and its number of generators
BACK_ENDS = 2  # of each generator
AT_ONCE = 2  # images at one of them
SLOTS = 24  # of the owner: retries keep theirs while they wait. The other requests of the backlog wait for their turn
IDLE_S = 30.0  # longest time that an image may wait beside a free slot, while janitors are killed and frozen
BACKLOG = 40  # concurrent open requests at most: enough to keep every generator busy
SETTLE_S = 60.0  # after the last fault all images must be final within this: leases and retries take seconds here
ANSWER_S = 120.0  # beyond this, and three times the time of the round, requests that are not answered are given up
DEADLINE_S = 600.0
ODD_ANSWERS = 0.15  # the share of odd answers of the inference service, with trouble from outside


@dataclass
class Round:
    """The parts of one round."""

    cluster: FaultCluster
    client: ChaosClient
    disturbances: Disturbances
    outside: Outside | None
    deaths: list[Death]
    turns: TurnWatch = field(default_factory=lambda: TurnWatch(SLOTS))

    @property
    def requested(self) -> set[str]:
        """Every image that must be final at the end: those of the client and of the foreign publisher."""
        foreign = self.outside.publisher.report.taken if self.outside else {}
        return {*self.client.requested, *foreign}


async def run(
    folder: Path,
    broker: RabbitMQ,
    *,
    jobs: int,
    seed: int,
    minutes: float | None = None,
    restarts: int = 0,
    pause_s: float = 1.5,
    store_url: str | None = None,
    outside: bool = True,
) -> Report:
    """One round. The requests are spread over `minutes`; None means as fast as they are processed."""
    dice = random.Random(seed)
    report = Report(seed, jobs)
    began = time.monotonic()
    settings = {
        "GENERATION_DEADLINE": str(DEADLINE_S),
        "GENERATOR_CONCURRENCY": str(AT_ONCE),
        "CONCURRENT_REQUESTS": str(SLOTS),
        "WAITING_REQUESTS": "0",
        "ANNOUNCE_INTERVAL": "1",  # a pool whose generators are all dead is gone after four seconds
    }
    if store_url:
        settings["STORE_URL"] = store_url
    deaths: list[Death] = []
    async with fault_cluster(folder, broker.fresh_vhost(), **settings) as cluster:
        for name, count in (("api", APIS), ("janitor", JANITORS)):
            for number in range(1, count + 1):
                await cluster.add_service(name, alias=f"{name}-{number}")
        for pool in POOLS:
            await _add_pool(cluster, pool, odd=ODD_ANSWERS if outside else 0.0, seed=seed)
        async with (
            running(cluster, dice, deaths) as odds,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        ):
            models = [model for model, _ in POOLS.values()]
            client = ChaosClient(http, list(cluster.urls.values()), random.Random(dice.random()), models=models)
            await until(client.sees_models)
            disturbances = Disturbances(cluster, broker, random.Random(dice.random()), pause_s=pause_s)
            foreign = await _outside(cluster, broker, client, random.Random(dice.random())) if outside else None
            this = Round(cluster, client, disturbances, foreign, deaths)
            await _play(this, odds, jobs=jobs, minutes=minutes, restarts=restarts)
            await _report(this, report)
    report.took_s = time.monotonic() - began
    return report


async def _add_pool(cluster: FaultCluster, pool: str, *, odd: float, seed: int) -> None:
    """The generators of a pool, and the inference services that they share."""
    model, generators = POOLS[pool]
    painters = [f"painter-{pool}-{number}" for number in range(1, BACK_ENDS + 1)]
    for number, painter in enumerate(painters):
        await cluster.add_painter(alias=painter, models=[model], faults=0.06, odd=odd, paint_s=0.1, seed=seed + number)
    for number in range(1, generators + 1):
        await cluster.add_service(
            "generator", alias=f"generator-{pool}-{number}", painters=painters, GENERATOR_POOL=pool
        )


async def _outside(cluster: FaultCluster, broker: RabbitMQ, client: ChaosClient, dice: random.Random) -> Outside:
    url = await publisher_url(broker, cluster.bus_url)
    return Outside(cluster, url, dice, lambda: list(client.requested))


async def _play(this: Round, odds: list[float], *, jobs: int, minutes: float | None, restarts: int) -> None:
    """Make all requests while things break, then let every image become final."""
    client = this.client
    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(each.run()) for each in (client.follower, client.watcher)]
        await asyncio.wait_for(asyncio.gather(client.follower.ready.wait(), client.watcher.ready.wait()), 30)
        within_s = minutes * 60 if minutes else jobs / 25  # a second on two cores
        breaking = [group.create_task(this.disturbances.run(restarts=restarts, within_s=within_s))]
        if this.outside:
            breaking.append(group.create_task(this.outside.run()))
        watching = group.create_task(this.turns.run(this.cluster.direct_settings))
        tasks = await _orders(client, jobs, minutes, limit_s=ANSWER_S + 3 * within_s)
        # after the last accepted request nothing more is broken, and every image must become final
        for task in breaking:
            task.cancel()
        await asyncio.wait(breaking)
        this.disturbances.repair()
        if this.outside:
            await this.outside.repair()
        odds[0] = 0.0
        await _wait_settled(this, tasks)
        for task in [*followers, watching]:
            task.cancel()


async def _orders(client: ChaosClient, jobs: int, minutes: float | None, *, limit_s: float) -> list[asyncio.Task[None]]:
    """Make all requests; returns once each is accepted, or after the limit, with the tasks that follow them."""
    gate = asyncio.Semaphore(BACKLOG)

    async def one(number: int) -> None:
        async with gate:
            await client.order(number)

    tasks = []
    for number in range(jobs):
        tasks.append(asyncio.create_task(one(number)))
        if minutes:
            await asyncio.sleep(minutes * 60 / jobs)
    with suppress(TimeoutError):
        await until(lambda: len(client.accepted) == jobs or _failures(tasks), limit_s=limit_s)
    return tasks


def _failures(tasks: list[asyncio.Task[None]]) -> list[BaseException]:
    ended = [task for task in tasks if task.done() and not task.cancelled()]
    return [error for task in ended if (error := task.exception())]


async def _wait_settled(this: Round, tasks: list[asyncio.Task[None]]) -> None:
    """Wait until no work is left, up to a limit; the checker reports what is left after it."""
    await asyncio.wait(tasks, timeout=SETTLE_S)
    for task in tasks:
        task.cancel()
    for error in _failures(tasks):
        raise error
    with suppress(TimeoutError):
        await until_quiet(this.cluster.direct_settings, SETTLE_S)
        async with asyncio.timeout(15):
            await asyncio.gather(*(this.client.follower.until_final(each).wait() for each in this.requested))


async def _report(this: Round, report: Report) -> None:
    cluster, client = this.cluster, this.client
    before = files_in(cluster.media)
    await cluster.sweep()
    report.swept = len(before - files_in(cluster.media))
    report.findings = found = await check(
        cluster.direct_settings,
        accepted=this.requested,
        deleted=client.deleted,
        shown=client.follower.shown,
        painted=cluster.painted_at_one(),
        deadline_s=DEADLINE_S,
    )
    found.duplicates += client.duplicates
    found.others += this.turns.violations(idle_s=IDLE_S)
    if len(client.accepted) < report.jobs:
        found.lost.append(f"{report.jobs - len(client.accepted)} requests were never answered")
    found.others += [f"the second websocket: {line}" for line in _watched(client)]
    found.orphans += files_left(
        before,
        found.records,
        generators=cluster.generators,
        deaths=this.deaths,
        media_times=this.outside.media_times if this.outside else (),
    )
    if this.outside:
        _report_outside(this, this.outside, report)
    report.most_waiting, report.longest_idle_s = this.turns.most_waiting, this.turns.longest_idle_s
    report.faults = this.disturbances.faults
    report.points = cluster.faults
    report.outcomes = found.by_status()
    records = found.records.values()
    report.painted_by = Counter(image.work_pool for image in records if image.status is Status.COMPLETED)
    delivered = cluster.delivered
    report.redeliveries = sum(delivered.values()) - len(delivered)
    report.retries = sum(image.failures for image in records)
    report.repainted = sum(cluster.painted("painting").values()) - sum(
        sum(cluster.painted(end).values()) for end in ("painted", "spoilt")
    )
    report.painted_elsewhere = cluster.painted().total() - len(cluster.painted())
    report.reconnects = client.follower.reconnects + client.watcher.reconnects
    ends = [(image.created_at, image.finished_at) for image in records if image.finished_at]
    report.slowest_s = max(((end - start).total_seconds() for start, end in ends), default=0.0)
    for moment in this.disturbances.times:
        if any(start <= moment < end for start, end in ends):
            report.recovery_s = max(report.recovery_s, min((e - moment).total_seconds() for _, e in ends if e > moment))


def _report_outside(this: Round, outside: Outside, report: Report) -> None:
    found, client, foreign = report.findings, this.client, outside.publisher.report
    requested = client.requested
    found.others += check_foreign(
        foreign, found.records, found.letters, requested=requested, may_be_cancelled=client.may_be_cancelled
    )
    for image in found.records.values():
        if image.deleted_at is not None and image.id not in client.may_be_deleted:
            found.lost.append(f"{image.id} is deleted, and nobody with a right to it asked for it")
    report.foreign = foreign.sent
    report.foreign_images = len(foreign.taken)
    report.foreign_letters = sum(FOREIGN_MARK.encode() in letter.body for letter in found.letters)
    odd = {f"odd answers ({kind})": count for kind, count in this.cluster.odd_answers.items()}
    report.outside = outside.counts + Counter(odd)


def _watched(client: ChaosClient) -> list[str]:
    shown = client.watcher.shown.events
    return [f"showed {kind} of {image_id} {times} times" for (image_id, kind), times in shown.items() if times > 1]
