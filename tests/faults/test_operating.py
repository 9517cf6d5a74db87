"""What an operator does by hand, through the `darkroom` command, on a real broker."""

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
from tests.faults.checker import check, files_in, queue_lengths, until_quiet, until_settled
from tests.faults.fault_cluster import FaultCluster
from tests.making import an_image
from tests.waiting import until


class Operator:
    """Types commands; what they answer."""

    def __init__(
        self, stage: FaultCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capsys = capsys
        for name, value in stage.settings.items():
            monkeypatch.setenv(name, value)

    async def types(self, *arguments: str, status: int = 0) -> str:
        self._capsys.readouterr()
        ended = await asyncio.to_thread(main, arguments)
        out, err = self._capsys.readouterr()
        assert ended == status, (arguments, ended, out, err)
        return out or err


@pytest.fixture
async def operator(stage, capsys, monkeypatch) -> Operator:
    return Operator(stage, capsys, monkeypatch)


@pytest.fixture
async def page(stage, http) -> FrontEnd:
    """A small house at work."""
    await stage.add_painter(paint_s=0.01)
    for service in ("api", "generator", "janitor"):
        await stage.add_service(service)
    await stage.start()
    return FrontEnd(http, stage.urls["api"])


async def ordered(page: FrontEnd, count: int) -> list[str]:
    images = [await page.order() for _ in range(count)]
    return [(await page.final(image["id"]))["id"] for image in images]


async def test_purge_says_how_many_then_clears_them_and_nothing_pinned(stage, page, operator):
    accepted = await ordered(page, 4)
    await page.ask("PATCH", f"/api/images/{accepted[0]}/", json={"pinned": True})

    week = json.loads(await operator.types("purge", "--older-than", "7d", "--dry-run"))
    dry = json.loads(await operator.types("purge", "--older-than", "0s", "--dry-run"))
    assert len(files_in(stage.media)) == 8
    done = json.loads(await operator.types("purge", "--older-than", "0s"))

    assert [(each["dryRun"], each["images"]) for each in (week, dry, done)] == [(True, 0), (True, 3), (False, 3)]
    await until_quiet(stage.known)
    found = await check(stage.known, accepted=accepted, deleted=accepted[1:])
    assert found.violations == []
    assert len(files_in(stage.media)) == 2
    assert "--older-than" in await operator.types("purge", "--older-than", "soon", status=2)


async def test_sweep_says_what_drifted_and_mends_it(stage, page, operator):
    kept, lost, bare = await ordered(page, 3)
    _, whole = await page.get(f"/api/images/{kept}/")
    for image_id, field in ((lost, "imageUrl"), (bare, "thumbnailUrl")):
        _, image = await page.get(f"/api/images/{image_id}/")
        (stage.media / image[field].removeprefix("/media/")).unlink()
    stray = stage.media / whole["imageUrl"].removeprefix("/media/").replace(kept, new_image_id(SystemClock().now()))
    stray.write_bytes(b"stray")

    dry = json.loads(await operator.types("sweep", "--dry-run"))
    assert stray.exists()
    done = json.loads(await operator.types("sweep"))
    again = json.loads(await operator.types("sweep"))

    found = ("filesWithoutRecord", "recordsWithoutFile", "recordsWithoutThumbnail")
    assert [dry[name] for name in found] == [1, 1, 1]
    assert [done[name] for name in found] == [1, 1, 1]
    assert [again[name] for name in found] == [0, 0, 0]
    assert (await page.get(f"/api/images/{lost}/"))[0] == 404
    assert (await page.get(f"/api/images/{bare}/"))[1]["thumbnailUrl"].startswith("/media/generated_images/")
    assert (await page.get(f"/api/images/{kept}/")) == (200, whole)


async def test_dead_letters_are_listed_shown_dropped_and_redriven(stage, page, operator):
    unheard = GenerateImage(id=new_image_id(SystemClock().now()), source="shop", time=SystemClock().now())
    async with stage.bus() as bus:
        await bus.send(unheard)
    await publish(stage, "image.commands", "generate", b"\xff not json")
    await until_letters(stage, 2)

    listed = [line.split(maxsplit=3) for line in (await operator.types("dead-letters", "list")).splitlines()]
    reasons = {reason.partition(":")[0]: letter_id for letter_id, _, queue, reason in listed}
    assert [queue for _, _, queue, _ in listed] == ["image.generate", "image.generate"]
    assert "unknown_image" in reasons
    letter = reasons.pop("unknown_image")
    [garbage] = reasons.values()
    shown = json.loads(await operator.types("dead-letters", "show", letter))
    assert json.loads(shown["body"])["id"] == unheard.id
    await operator.types("dead-letters", "drop", garbage)
    assert "no dead letter" in await operator.types("dead-letters", "drop", garbage, status=1)

    # what was missing is there now: the same order is tried again
    async with open_store(stage.known.store_url, timeout_s=10) as store:
        await store.insert(an_image(id=unheard.id, created_at=SystemClock().now(), sent_at=SystemClock().now()))
    await operator.types("dead-letters", "redrive", letter)
    assert (await page.final(unheard.id))["status"] == "completed"
    await until_letters(stage, 0)
    assert "takes the id" in await operator.types("dead-letters", "show", status=2)


async def test_a_redrive_of_a_failed_image_is_a_new_order_that_names_the_old_one(stage, page, operator):
    clock = SystemClock()
    old = an_image(created_at=clock.now(), prompt="a lighthouse at noon")
    failed = transitions.fail(old, error=Failure(code="worker_lost", detail="six"), now=clock.now())
    async with open_store(stage.known.store_url, timeout_s=10) as store:
        await store.insert(failed.model_copy(update={"pending_event": None}))
    order = GenerateImage(id=old.id, source="api", subject=old.id, time=clock.now())
    headers = {"reason": "worker_lost: six workers", "queue": "image.generate", "died-at": clock.now().isoformat()}
    await publish(stage, DEAD, "generate", encode(order), headers)
    await until_letters(stage, 1)
    [line] = (await operator.types("dead-letters", "list")).splitlines()

    said = await operator.types("dead-letters", "redrive", line.split()[0])

    new_id = said.rpartition("ordered anew as ")[2].strip()
    image = await page.final(new_id)
    assert (image["status"], image["prompt"]) == ("completed", "a lighthouse at noon")
    async with open_store(stage.known.store_url, timeout_s=10) as store:
        assert (await store.get(new_id)).source == f"redrive:{old.id}"
        assert (await store.get(old.id)).status == "failed"
    await until_letters(stage, 0)


@pytest.mark.timeout(90)
async def test_row_22_an_order_that_kills_its_workers_fails_and_ends_as_a_dead_letter(stage, http, operator):
    await stage.add_painter(paint_s=0.01)
    quick = {"LEASE": "0.5", "RECONCILE_INTERVAL": "0.3", "RECONCILE_GRACE": "0.3"}
    stage.settings.update(quick)
    for service in ("api", "generator", "janitor"):
        await stage.add_service(service)
    stage.services["generator"].env["FAULTS"] = "kill before thumbnail"
    await stage.start()
    page = FrontEnd(http, stage.urls["api"])
    image_id = (await page.order())["id"]
    for _ in range(transitions.MAX_LOST):
        await stage.died("generator")
        await stage.services["generator"].start()

    image = await page.final(image_id)

    assert (image["status"], image["error"]["code"], image["attempts"]) == (
        "failed",
        "worker_lost",
        transitions.MAX_LOST,
    )
    await until_letters(stage, 1)
    [line] = (await operator.types("dead-letters", "list")).splitlines()
    assert "image.generate  worker_lost: 6 workers" in line
    await until_settled(stage.known)
    await stage.sweep()
    found = await check(stage.known, accepted=[image_id], painted=stage.painted())
    assert found.violations == []
    stage.services["generator"].env["FAULTS"] = ""
    assert "ordered anew" in await operator.types("dead-letters", "redrive", line.split()[0])


def test_the_command_says_that_memory_is_out_of_reach(capsys, monkeypatch):
    monkeypatch.setenv("BUS_URL", "memory://")

    assert main(["dead-letters", "list"]) == 2
    assert "out of reach" in capsys.readouterr().err


async def publish(stage: FaultCluster, exchange: str, key: str, body: bytes, headers: dict | None = None) -> None:
    """As a stranger does."""
    async with await aio_pika.connect(stage.bus_url) as connection, connection.channel() as channel:
        to = await channel.get_exchange(exchange)
        await to.publish(aio_pika.Message(body, headers=headers, message_id="stranger"), key)


async def until_letters(stage: FaultCluster, count: int) -> None:
    """Wait until so many are kept, and the janitor has looked at each."""

    async def are_kept() -> bool:
        lengths = await queue_lengths(stage.known)
        return (lengths["image.dead.v2"], lengths["image.dead.work.v2"]) == (count, 0)

    await until(are_kept, pause_s=0.1)
