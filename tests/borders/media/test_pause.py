"""Media that fail pause the consumption of work; no image fails."""

import asyncio
import shutil
from contextlib import asynccontextmanager

import pytest

from common.domain.errors import Unavailable
from common.media.files import FileMedia
from services.generator.media_pause import MediaPause, SharedPause
from tests.cluster import FrontEnd, embedded


class RecordingConsumer:
    in_flight = 0

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.called = asyncio.Event()

    async def pause(self) -> None:
        self._note("pause")

    async def resume(self) -> None:
        self._note("resume")

    async def limit(self, concurrency: int) -> None:
        self._note(f"limit {concurrency}")

    async def drain(self, timeout_s: float) -> bool:
        return timeout_s > 0

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.called.set()

    async def until(self, calls: list[str]) -> None:
        async with asyncio.timeout(30):
            while self.calls != calls:
                self.called.clear()
                await self.called.wait()


@asynccontextmanager
async def watching(tmp_path):
    consumer = RecordingConsumer()
    async with FileMedia.open(tmp_path / "media") as media, asyncio.TaskGroup() as group:
        pause = MediaPause(media, pause_s=0.01)
        task = group.create_task(pause.run(SharedPause(consumer).view("media")))
        yield pause, consumer
        task.cancel()


@pytest.mark.border(rule="C3")
async def test_taking_stops_until_the_media_can_be_written(tmp_path):
    async with watching(tmp_path) as (pause, consumer):
        (tmp_path / "media").rename(tmp_path / "away")
        pause.record_failure()
        await consumer.until(["pause"])

        (tmp_path / "away").rename(tmp_path / "media")
        await consumer.until(["pause", "resume"])
        pause.record_failure()
        await consumer.until(["pause", "resume", "pause", "resume"])


@pytest.mark.border(rule="C3")
async def test_a_consumer_that_is_paused_twice_is_resumed_once():
    consumer = RecordingConsumer()
    shared = SharedPause(consumer)
    circuit, media = shared.view("inference"), shared.view("media")

    await circuit.pause()
    await media.pause()
    await circuit.resume()
    assert consumer.calls == ["pause", "pause"]
    await media.resume()

    assert consumer.calls == ["pause", "pause", "resume"]


@pytest.mark.border(rule="C3")
async def test_images_wait_for_the_media_and_none_fails(tmp_path):
    """The folder is replaced by a file while four images are ordered, then given back."""
    import aiohttp

    async with embedded(tmp_path, CIRCUIT_PAUSE="0.3") as cluster, aiohttp.ClientSession() as http:
        page = FrontEnd(http, cluster.url)
        folder = cluster.media / "generated_images"
        folder.rename(tmp_path / "away")
        folder.write_bytes(b"")
        made = [await page.order() for _ in range(4)]
        up = cluster.services["up"]
        async with asyncio.timeout(60):
            while "no work is taken until they can" not in up.log:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
            while (await page.get("/readyz"))[1]["trouble"].keys() != {"media"}:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.2)  # a check that succeeded counts for a second

        folder.unlink()
        (tmp_path / "away").rename(folder)

        found = [await page.final(image["id"]) for image in made]
        assert [image["status"] for image in found] == ["completed"] * 4
        assert [image["failures"] for image in found] == [0] * 4


@pytest.mark.border(rule="C3")
async def test_a_failing_check_is_unavailable(tmp_path):
    async with FileMedia.open(tmp_path / "media") as media:
        shutil.rmtree(tmp_path / "media/thumbnails")
        (tmp_path / "media/thumbnails").write_bytes(b"")

        with pytest.raises(Unavailable):
            await media.check()
