"""Generators that die, stop or cancel while ComfyUI paints."""

import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.cluster import FrontEnd
from tests.engines.comfyui import Comfyui, comfyui
from tests.faults.checker import check, until_quiet
from tests.faults.follower import following
from tests.waiting import until

MODEL = "sd_xl_base_1.0.safetensors"
KILLS = 50
FAST = {"LEASE": "1", "RECONCILE_INTERVAL": "0.3", "RECONCILE_GRACE": "1", "INFERENCE_TIMEOUT": "30"}


@asynccontextmanager
async def services(
    cluster, http, *generators: str, more: Sequence[Comfyui] = (), **settings: str
) -> AsyncIterator[tuple[Comfyui, FrontEnd]]:
    """The api, the janitor and these generators, which paint with one ComfyUI, or also with `more`."""
    async with comfyui() as fake:
        for name in ("api", "janitor"):
            await cluster.add_service(name, **FAST)
        for alias in generators:
            service = await cluster.add_service(
                "generator", alias=alias, GENERATOR_CONCURRENCY="1", **{**FAST, **settings}
            )
            service.env["INFERENCE_SERVICE_URL"] = " ".join(f"comfyui+{each.url}" for each in (fake, *more))
        await cluster.start("api", "janitor", generators[0])
        yield fake, FrontEnd(http, cluster.urls["api"])


async def begun(fake: Comfyui, page: FrontEnd, seed: int) -> str:
    """Order an image, and wait until ComfyUI stands at its first step."""
    fake.hold()
    image_id = (await page.order(model=MODEL, seed=seed))["id"]
    await until(fake.held.is_set)
    return image_id


async def until_painted(fake: Comfyui, count: int) -> None:
    await until(lambda: len(fake.painted) == count)


async def until_looked(fake: Comfyui, before: int) -> None:
    """Wait until the history was read more often than before: a generator follows the run."""
    await until(lambda: fake.requests.count("GET /history") > before)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_each_image_of_killed_generators_is_painted_once(cluster, http):
    """In turn, the run ends while no generator lives, and while the next one already follows it."""
    async with services(cluster, http, "generator") as (fake, page), following(http, [page.url]) as follower:
        accepted = []
        for number in range(KILLS):
            image_id = await begun(fake, page, seed=number)
            await cluster.services["generator"].kill()
            if number % 2:
                fake.release()
                await until_painted(fake, number + 1)
            looked = fake.requests.count("GET /history")
            await cluster.restart("generator")
            if not number % 2:
                await until_looked(fake, looked)
                fake.release()
            image = await page.final(image_id)
            assert (image["status"], image["attempts"]) == ("completed", 2)
            accepted.append(image_id)
        await until_quiet(cluster.direct_settings)
        found = await check(cluster.direct_settings, accepted=accepted, shown=follower.shown)

    assert found.violations == []
    assert (len(accepted), len(fake.painted), len(set(fake.painted))) == (KILLS, KILLS, KILLS)
    assert (fake.interrupted, fake.deleted) == ([], [])


@pytest.mark.long
@pytest.mark.slow
async def test_a_killed_generator_finds_its_work_at_two_servers(cluster, http):
    """Each paints one image when the generator is killed. The next one asks each image's own server first."""
    async with comfyui() as second, services(cluster, http, "generator", more=[second]) as (first, page):
        second.hold()
        accepted = [await begun(first, page, seed=1), (await page.order(model=MODEL, seed=2))["id"]]
        await until(second.held.is_set)
        await cluster.services["generator"].kill()
        await cluster.restart("generator")
        await until(lambda: cluster.services["generator"].log.count("taken over") == 2)
        first.release()
        second.release()
        images = [await page.final(image_id) for image_id in accepted]

    assert {(image["status"], image["attempts"]) for image in images} == {("completed", 2)}
    assert (len(first.painted), len(second.painted)) == (1, 1)
    assert (first.graphs.keys() & second.graphs.keys(), first.interrupted, second.interrupted) == (set(), [], [])


@pytest.mark.long
async def test_a_worker_that_wakes_up_past_its_lease_stops_nobody(cluster, http):
    """The second worker follows the run when the first one wakes up, and learns that its lease is lost."""
    async with services(cluster, http, "first", "second") as (fake, page):
        image_id = await begun(fake, page, seed=1)
        cluster.services["first"].signal(signal.SIGSTOP)
        await until(lambda: cluster.is_stopped("first"))
        looked = fake.requests.count("GET /history")
        await cluster.start("second")
        await until_looked(fake, looked)
        cluster.services["first"].signal(signal.SIGCONT)
        await until(lambda: "dropped" in cluster.services["first"].log)
        fake.release()

        image = await page.final(image_id)

        assert (image["status"], image["attempts"]) == ("completed", 2)
        assert (len(fake.painted), fake.interrupted, fake.deleted) == (1, [], [])
        assert "taken over" in cluster.services["second"].log


@pytest.mark.long
async def test_work_that_a_stopping_generator_gives_back_goes_on(cluster, http):
    async with services(cluster, http, "generator", GRACE_PERIOD="0.2") as (fake, page):
        image_id = await begun(fake, page, seed=1)
        await cluster.services["generator"].stop()
        await cluster.restart("generator")
        await until(lambda: "taken over" in cluster.services["generator"].log)
        fake.release()

        assert (await page.final(image_id))["status"] == "completed"
        assert (len(fake.painted), fake.interrupted, fake.deleted) == (1, [], [])


async def test_a_cancel_stops_its_own_work_within_a_second(cluster, http):
    """The image of one generator runs, that of the other waits in ComfyUI's queue behind a third, which is foreign."""
    async with services(cluster, http, "first", "second") as (fake, page):
        running = await begun(fake, page, seed=1)
        await cluster.start("second")
        waiting = (await page.order(model=MODEL, seed=2))["id"]
        await until(lambda: len(fake.pending) == 1)
        foreign = [99, "foreign", dict(fake.running[2]), {}, fake.running[4]]
        fake.enqueue(foreign)

        await page.post(f"/api/images/{waiting}/cancel/")
        began = time.monotonic()
        await until(lambda: len(fake.deleted) == 1, pause_s=0.01)
        await page.post(f"/api/images/{running}/cancel/")
        await until(lambda: len(fake.interrupted) == 1, pause_s=0.01)

        assert time.monotonic() - began < 2
        fake.release()
        await until(lambda: "foreign" in fake.painted)
        assert fake.painted == ["foreign"]
