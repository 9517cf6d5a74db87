"""Each alert of deploy/prometheus fires when real services on a real broker have its trouble.

The services serve their metrics before and in trouble; promtool evaluates the rules as they are over both
(tests/deploy/promtool.py).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import aio_pika
import aiohttp
import pytest
import yaml

from tests.cluster import FrontEnd
from tests.deploy.promtool import RULES_FILE, WELL, Scrape, firing, scrape
from tests.faults.fault_cluster import FaultCluster, fault_cluster
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.rabbitmq_engines import User
from tests.waiting import until

pytestmark = [pytest.mark.rabbitmq, pytest.mark.timeout(400)]

ALERTS = {rule["alert"] for rule in yaml.safe_load(RULES_FILE.read_text())["groups"][0]["rules"]}
ALL = ("^image\\.", "^image\\.", "^image\\.")
MODEL = "sdxl"
GENERATORS = "darkroom_generators"
SETTINGS = {
    "ANNOUNCE_INTERVAL": "0.5",
    "GENERATOR_CONCURRENCY": "1",
    "STORE_TIMEOUT": "1",
    "INFERENCE_TIMEOUT": "60",
}
PATIENCE_S = 90.0  # on a busy machine
tested: set[str] = set()


class Deployment:
    """api, generator, janitor and an inference service; all is well when it is given to a test."""

    def __init__(self, cluster: FaultCluster, http: aiohttp.ClientSession, broker: RabbitMQ, user: User) -> None:
        self.cluster = cluster
        self.page = FrontEnd(http, "")
        self.well = Scrape(0.0)
        self._broker = broker
        self._user = user

    async def start(self, *, has_generator: bool = True, **janitor: str) -> None:
        await self.cluster.add_painter(models=[MODEL])
        for name in ("api", "generator", "janitor") if has_generator else ("api", "janitor"):
            await self.cluster.add_service(name, **SETTINGS, **(janitor if name == "janitor" else {}))
        await self.cluster.start()
        self.page.url = self.cluster.urls["api"]
        if has_generator:
            assert (await self.page.final((await self.page.order(model=MODEL))["id"]))["status"] == "completed"
        self.well = await self.scraped(lambda found: is_counted(found) and (found[GENERATORS] or not has_generator))

    @property
    def owner_url(self) -> str:
        """The URL of the broker for a user with all rights."""
        return self._user.vhost

    async def scraped(self, is_so: Callable[[Scrape], object]) -> Scrape:
        """The metrics once this is so."""
        targets = {
            alias: service.ready_url.replace("/readyz", "/metrics")
            for alias, service in self.cluster.services.items()
            if service.ready_url and alias != "inference"
        }
        last = await scrape(targets)

        async def found() -> bool:
            nonlocal last
            last = await scrape(targets)
            return bool(is_so(last))

        try:
            await until(found, pause_s=0.2, limit_s=PATIENCE_S)
        except TimeoutError:
            shown = "\n".join(f"{name} {value}" for name, value in last.samples.items() if "_bucket" not in name)
            pytest.fail(f"not served:\n{shown}")
        return last

    async def change_rights(self, configure: str = ALL[0], write: str = ALL[1]) -> None:
        """The services get these rights on the broker, and new connections, which notice it."""
        await asyncio.to_thread(self._broker.add_users, replace(self._user, rights=(configure, write, ALL[2])))
        for line in self.cluster.proxies.values():
            line.cut()

    async def fires(self, alert: str, is_so: Callable[[Scrape], object], *, after: int) -> None:
        """It fires at last this many minutes after the trouble began, and no alert does while all is well."""
        tested.add(alert)
        first = await self.scraped(is_so)
        # the janitor gathers once more, or is not able to
        second = await self.scraped(lambda found: is_so(found) and found.at > first.at + 2)
        await self.page.http.close()

        minutes = [WELL - 1, WELL + after]
        before, later = await asyncio.to_thread(firing, self.cluster.folder, self.well, [first, second], minutes)

        assert before == set()
        assert alert in later


@pytest.fixture
async def deployment(tmp_path: Path, rabbitmq: RabbitMQ, vhost: str) -> AsyncIterator[Deployment]:
    user = User("services", "secret", vhost, ALL)
    await asyncio.to_thread(rabbitmq.add_users, user)
    async with aiohttp.ClientSession() as http, fault_cluster(tmp_path, user.url, **SETTINGS) as cluster:
        yield Deployment(cluster, http, rabbitmq, user)


def is_counted(found: Scrape) -> bool:
    """Whether a janitor has gathered all figures."""
    return found["darkroom_media_files"] is not None


def settles(name: str, least: float = 1) -> Callable[[Scrape], bool]:
    """Whether the metric is at least this."""
    return lambda found: (found[name] or 0) >= least


async def test_no_janitor(deployment):
    await deployment.start()

    await deployment.cluster.services["janitor"].kill()

    await deployment.fires("DarkroomFiguresOld", lambda found: found["darkroom_figures_age_seconds"] is None, after=6)


async def test_a_store_that_takes_no_writes(deployment):
    """A lock on the SQLite file: the janitor lives, and serves figures that grow old; the api answers 503."""
    await deployment.start()
    with closing(sqlite3.connect(deployment.cluster.folder / "darkroom.db", isolation_level=None)) as store:
        store.execute("BEGIN EXCLUSIVE")
        for _ in range(8):
            status, _ = await deployment.page.post("/v1/images/generations", {"prompt": "x"})
            assert status == 503

        await deployment.fires(
            "DarkroomServerErrors", lambda found: found['darkroom_http_request_seconds_count{status="503"}'], after=20
        )
        await deployment.fires("DarkroomFiguresOld", settles("darkroom_figures_age_seconds", 4), after=10)


async def test_a_pool_without_a_generator(deployment):
    """Its orders do not stay dispatched: they wait again, and hold no slot."""
    await deployment.start()

    assert await deployment.cluster.services["generator"].stop() == 0
    await deployment.page.order(model=MODEL)

    await deployment.fires("DarkroomNoGenerator", settles("darkroom_owners_without_generator"), after=6)


async def test_a_deployment_that_never_had_a_generator(deployment):
    await deployment.start(has_generator=False)

    await deployment.page.order(model=MODEL)

    await deployment.fires("DarkroomNoGenerator", settles("darkroom_images_queued"), after=6)


async def test_an_inference_service_that_is_gone(deployment):
    await deployment.start()

    await deployment.cluster.services["inference"].kill()
    await deployment.page.order(model=MODEL)

    await deployment.fires("DarkroomCircuitOpen", settles("darkroom_circuit_open"), after=6)


async def test_a_generator_with_too_much_to_do(deployment):
    """It paints one picture for long, and the next command waits."""
    await deployment.start()

    for _ in range(2):
        await deployment.page.order(model=MODEL, prompt="this takes long")

    await deployment.fires("DarkroomQueueOld", settles("darkroom_queue_oldest_age_seconds"), after=17)


async def test_a_message_that_is_no_command(deployment):
    await deployment.start()

    connection = await aio_pika.connect(deployment.cluster.bus_url)
    async with connection:
        exchange = await (await connection.channel()).get_exchange("image.commands")
        await exchange.publish(aio_pika.Message(b"\xff no JSON"), "generate")

    await deployment.fires("DarkroomDeadLetters", settles("darkroom_dead_letters"), after=12)


async def test_a_broker_that_takes_no_commands(deployment):
    await deployment.start()

    await deployment.change_rights(write="^image\\.(?!work$)")
    await deployment.page.order(model=MODEL)

    await deployment.fires("DarkroomUnsent", settles("darkroom_images_unsent"), after=12)


async def test_a_broker_that_takes_no_events(deployment):
    await deployment.start()

    await deployment.change_rights(write="^image\\.(?!events$)")
    await deployment.page.order(model=MODEL)

    await deployment.fires("DarkroomPendingEvents", settles("darkroom_pending_events"), after=12)


async def test_attempts_that_fail(deployment):
    await deployment.start()

    for _ in range(3):
        image = await deployment.page.order(model=MODEL, prompt="refuse this")
        assert (await deployment.page.final(image["id"]))["status"] == "failed"

    await deployment.fires("DarkroomFailing", settles('darkroom_attempts_total{outcome="failed"}', 3), after=35)


async def test_a_purge_that_never_comes(deployment):
    """Somebody has deleted the queue of its timer, and the services may not declare it again."""
    await deployment.start(PURGE_INTERVAL="1")
    await deployment.change_rights(configure="^image\\.(?!timer\\.purge)")
    connection = await aio_pika.connect(deployment.owner_url)
    async with connection:
        await (await connection.channel()).queue_delete("image.timer.purge.v1")
    seen: list[float] = []

    def is_late(found: Scrape) -> bool:
        seen.append(found["darkroom_next_purge_timestamp_seconds"] or 0)
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    await deployment.fires("DarkroomPurgeLate", is_late, after=75)


async def test_a_janitor_whose_clock_is_wrong(deployment):
    await deployment.start()
    janitor = deployment.cluster.services["janitor"]
    await janitor.stop()
    janitor.env |= {"RECONCILE_INTERVAL": "3", "FAULTS_CLOCK": "60"}
    await janitor.start()

    await deployment.fires("DarkroomClockAhead", settles("darkroom_clock_ahead_seconds", 50), after=12)


def test_each_alert_was_made_to_fire():
    """It runs last in this file."""
    assert tested == ALERTS
