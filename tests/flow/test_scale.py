"""Many concurrent requests, processes that are killed during work."""

import asyncio
import signal

import pytest

from tests.cluster import FINAL, embedded, front_end, separate
from tests.media_folder import files_in

MANY = 500


async def all_final(page, count):
    """Wait until `count` images are completed and none is active; returns the number of completed."""
    async with asyncio.timeout(120):
        while True:
            _, done = await page.get("/api/images/history/?status=completed&perPage=1")
            _, left = await page.get("/api/images/history/?status=active&perPage=1")
            if done["total"] >= count and left["total"] == 0:
                return done["total"]
            await asyncio.sleep(0.2)


def stored(cluster, folder):
    return [key for key in files_in(cluster.media) if key.startswith(f"{folder}/")]


@pytest.mark.long
@pytest.mark.timeout(150)
async def test_500_concurrent_requests_give_500_images(tmp_path, vhost):
    async with separate(tmp_path, vhost, GENERATOR_CONCURRENCY="4") as cluster, front_end(cluster.url) as page:
        async with page.socket() as events:
            finished: dict[str, int] = {}

            async def listen():
                while len(finished) < MANY:
                    frame = await events.next()
                    if frame["type"].removeprefix("image.") in FINAL:
                        finished[frame["subject"]] = finished.get(frame["subject"], 0) + 1

            listening = asyncio.create_task(listen())
            images = await asyncio.gather(*(page.order(prompt=f"number {n}", steps=1) for n in range(MANY)))
            await listening

        assert await all_final(page, MANY) == MANY
        assert finished == {image["id"]: 1 for image in images}
        assert len(stored(cluster, "generated_images")) == MANY
        assert len(stored(cluster, "thumbnails")) == MANY
        painted = cluster.services["inference"].log.count("painted")
        assert painted <= MANY


@pytest.mark.long
async def test_kill_9_of_everything_loses_no_accepted_request(tmp_path):
    async with embedded(tmp_path, PAINTER_STEP_DELAY="0.05") as cluster, front_end(cluster.url) as page:
        images = [await page.order(steps=10) for _ in range(5)]
        async with page.socket() as events:
            while (await events.next())["type"] != "image.progress":
                pass

        await cluster.services["up"].kill()
        await cluster.start()

        for image in images:
            assert (await page.final(image["id"]))["status"] == "completed"
        assert len(stored(cluster, "generated_images")) == 5


@pytest.mark.long
async def test_kill_9_of_a_generator_moves_its_work_to_another(tmp_path, vhost):
    async with (
        separate(tmp_path, vhost, PAINTER_STEP_DELAY="0.1", GENERATOR_CONCURRENCY="1") as cluster,
        front_end(cluster.url) as page,
    ):
        async with page.socket() as events:
            images = [await page.order(steps=10) for _ in range(3)]
            while (await events.next())["type"] != "image.progress":
                pass

        cluster.services["generator-1"].signal(signal.SIGKILL)

        for image in images:
            assert (await page.final(image["id"]))["status"] == "completed"
        assert len(stored(cluster, "generated_images")) == 3
