"""The `darkroom` command of an operator, with a real broker."""

import asyncio
import json

import aio_pika
import pytest

from common.bus.rabbitmq.topology import DEAD
from common.domain import transitions
from common.domain.images import Failure, new_image_id
from common.messages import GenerateImage, encode
from common.runtime.clock import SystemClock
from common.store.connect import open_store
from services.cli.main import main
from tests.cluster import FrontEnd
from tests.faults.checker import check, queue_lengths, until_quiet, until_settled
from tests.faults.fault_cluster import FaultCluster
from tests.making import an_image
from tests.media_folder import files_in, remove_file, write_file
from tests.waiting import until


class Operator:
    """Runs commands and returns their output."""

    def __init__(
        self, cluster: FaultCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capsys = capsys
        for name, value in cluster.settings.items():
            monkeypatch.setenv(name, value)

    async def run(self, *arguments: str, status: int = 0) -> str:
        self._capsys.readouterr()
        ended = await asyncio.to_thread(main, arguments)
        out, err = self._capsys.readouterr()
        assert ended == status, (arguments, ended, out, err)
        return out or err


@pytest.fixture
async def operator(cluster, capsys, monkeypatch) -> Operator:
    return Operator(cluster, capsys, monkeypatch)


@pytest.fixture
async def page(cluster, http) -> FrontEnd:
    """A running cluster with one process of each service."""
    await cluster.add_painter(paint_s=0.01)
    for service in ("api", "generator", "janitor"):
        await cluster.add_service(service)
    await cluster.start()
    return FrontEnd(http, cluster.urls["api"])


async def ordered(page: FrontEnd, count: int) -> list[str]:
    images = [await page.order() for _ in range(count)]
    return [(await page.final(image["id"]))["id"] for image in images]


@pytest.mark.long
async def test_purge_counts_then_removes_all_but_pinned_images(cluster, page, operator):
    accepted = await ordered(page, 4)
    await page.ask("PATCH", f"/api/images/{accepted[0]}/", json={"pinned": True})

    week = json.loads(await operator.run("purge", "--older-than", "7d", "--dry-run"))
    dry = json.loads(await operator.run("purge", "--older-than", "0s", "--dry-run"))
    assert len(files_in(cluster.media)) == 8
    done = json.loads(await operator.run("purge", "--older-than", "0s"))

    assert [(each["dryRun"], each["images"]) for each in (week, dry, done)] == [(True, 0), (True, 3), (False, 3)]
    await until_quiet(cluster.direct_settings)
    found = await check(cluster.direct_settings, accepted=accepted, deleted=accepted[1:])
    assert found.violations == []
    assert len(files_in(cluster.media)) == 2
    assert "--older-than" in await operator.run("purge", "--older-than", "soon", status=2)


@pytest.mark.long
async def test_sweep_reports_and_repairs_drift(cluster, page, operator):
    kept, lost, bare = await ordered(page, 3)
    _, whole = await page.get(f"/api/images/{kept}/")
    for image_id, field in ((lost, "imageUrl"), (bare, "thumbnailUrl")):
        _, image = await page.get(f"/api/images/{image_id}/")
        remove_file(cluster.media, image[field].removeprefix("/media/"))
    stray = whole["imageUrl"].removeprefix("/media/").replace(kept, new_image_id(SystemClock().now()))
    write_file(cluster.media, stray, b"stray")

    dry = json.loads(await operator.run("sweep", "--dry-run"))
    assert stray in files_in(cluster.media)
    done = json.loads(await operator.run("sweep"))
    restart = json.loads(await operator.run("sweep"))

    found = ("filesWithoutRecord", "recordsWithoutFile", "recordsWithoutThumbnail")
    assert [dry[name] for name in found] == [1, 1, 1]
    assert [done[name] for name in found] == [1, 1, 1]
    assert [restart[name] for name in found] == [0, 0, 0]
    assert (await page.get(f"/api/images/{lost}/"))[0] == 404
    assert (await page.get(f"/api/images/{bare}/"))[1]["thumbnailUrl"].startswith("/media/generated_images/")
    assert (await page.get(f"/api/images/{kept}/")) == (200, whole)


async def test_dead_letters_are_listed_shown_dropped_and_redriven(cluster, page, operator):
    unrecorded = GenerateImage(id=new_image_id(SystemClock().now()), source="shop", time=SystemClock().now())
    async with cluster.bus() as bus:
        await bus.send(unrecorded)
    await publish(cluster, "image.commands", "generate", b"\xff not json")
    await until_letters(cluster, 2)

    listed = [line.split(maxsplit=3) for line in (await operator.run("dead-letters", "list")).splitlines()]
    reasons = {reason.partition(":")[0]: letter_id for letter_id, _, queue, reason in listed}
    assert sorted(queue for _, _, queue, _ in listed) == ["image.generate", "image.work.default"]
    assert "unknown_image" in reasons
    letter = reasons.pop("unknown_image")
    [garbage] = reasons.values()
    shown = json.loads(await operator.run("dead-letters", "show", letter))
    assert json.loads(shown["body"])["id"] == unrecorded.id
    await operator.run("dead-letters", "drop", garbage)
    assert "no dead letter" in await operator.run("dead-letters", "drop", garbage, status=1)

    # the record exists now, so the redriven command succeeds
    async with open_store(cluster.direct_settings.store_url, timeout_s=10) as store:
        await store.insert(an_image(id=unrecorded.id, created_at=SystemClock().now(), sent_at=SystemClock().now()))
    await operator.run("dead-letters", "redrive", letter)
    assert (await page.final(unrecorded.id))["status"] == "completed"
    await until_letters(cluster, 0)
    assert "takes the id" in await operator.run("dead-letters", "show", status=2)


@pytest.mark.long
async def test_redriving_a_failed_image_requests_a_new_one(cluster, page, operator):
    clock = SystemClock()
    old = an_image(created_at=clock.now(), prompt="a lighthouse at noon")
    failed = transitions.fail(old, error=Failure(code="worker_lost", detail="six"), now=clock.now())
    async with open_store(cluster.direct_settings.store_url, timeout_s=10) as store:
        await store.insert(failed.model_copy(update={"pending_event": None}))
    order = GenerateImage(id=old.id, source="api", subject=old.id, time=clock.now())
    headers = {"reason": "worker_lost: six workers", "queue": "image.generate", "died-at": clock.now().isoformat()}
    await publish(cluster, DEAD, "generate", encode(order), headers)
    await until_letters(cluster, 1)
    [line] = (await operator.run("dead-letters", "list")).splitlines()

    said = await operator.run("dead-letters", "redrive", line.split()[0])

    new_id = said.rpartition("requested again as image ")[2].strip()
    image = await page.final(new_id)
    assert (image["status"], image["prompt"]) == ("completed", "a lighthouse at noon")
    async with open_store(cluster.direct_settings.store_url, timeout_s=10) as store:
        assert (await store.get(new_id)).source == f"redrive:{old.id}"
        assert (await store.get(old.id)).status == "failed"
    await until_letters(cluster, 0)


@pytest.mark.long
@pytest.mark.fault(row=22)
@pytest.mark.timeout(150)
async def test_an_image_that_kills_workers_is_dead_lettered(cluster, http, operator):
    """The sixth worker that dies on an image fails it; its command is kept as a dead letter, and can be redriven."""
    await cluster.add_painter(paint_s=0.01)
    quick = {"LEASE": "0.5", "RECONCILE_INTERVAL": "0.3", "RECONCILE_GRACE": "0.3"}
    cluster.settings.update(quick)
    for service in ("api", "generator", "janitor"):
        await cluster.add_service(service)
    cluster.services["generator"].env["FAULTS"] = "kill before thumbnail"
    await cluster.start()
    page = FrontEnd(http, cluster.urls["api"])
    image_id = (await page.order())["id"]
    for _ in range(transitions.MAX_LOST):
        await cluster.wait_killed("generator")
        await cluster.services["generator"].start()

    image = await page.final(image_id)

    assert (image["status"], image["error"]["code"], image["attempts"]) == (
        "failed",
        "worker_lost",
        transitions.MAX_LOST,
    )
    await until_letters(cluster, 1)
    [line] = (await operator.run("dead-letters", "list")).splitlines()
    assert "image.work.default  worker_lost: 6 workers" in line
    await until_settled(cluster.direct_settings)
    await cluster.sweep()
    found = await check(cluster.direct_settings, accepted=[image_id], painted=cluster.painted())
    assert found.violations == []
    cluster.services["generator"].env["FAULTS"] = ""
    assert "requested again as image" in await operator.run("dead-letters", "redrive", line.split()[0])


async def publish(cluster: FaultCluster, exchange: str, key: str, body: bytes, headers: dict | None = None) -> None:
    """Publish as a client that is not Darkroom."""
    async with await aio_pika.connect(cluster.bus_url) as connection, connection.channel() as channel:
        to = await channel.get_exchange(exchange)
        await to.publish(aio_pika.Message(body, headers=headers, message_id="stranger"), key)


async def until_letters(cluster: FaultCluster, count: int) -> None:
    """Wait until so many are kept, and the janitor has handled each."""

    async def are_kept() -> bool:
        lengths = await queue_lengths(cluster.direct_settings)
        return (lengths["image.dead.v2"], lengths["image.dead.work.v2"]) == (count, 0)

    await until(are_kept, pause_s=0.1)
