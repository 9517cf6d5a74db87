"""A purge of many expired images whose janitor is killed repeatedly."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from common.domain import images
from common.domain.images import Format, Image, Status
from common.messages import Tick, TickData
from common.runtime.clock import SystemClock
from common.store.connect import open_store
from tests.faults.checker import until_quiet
from tests.faults.fault_cluster import FaultCluster
from tests.making import an_image
from tests.media_folder import files_in
from tests.waiting import until

DAY = timedelta(days=1)
AT_ONCE = 200
JPEG = b"\xff\xd8\xff\xd9"  # the content of a file does not matter to a purge


@dataclass
class PurgeResult:
    """Duration, memory and remains of a purge."""

    images: int
    kills: int
    took_s: float
    files_left: set[str]
    kept: set[str]
    peak_kib: int
    first_kib: int
    tombstones: int


async def add_completed(cluster: FaultCluster, count: int, *, age: timedelta, pinned: bool = False) -> list[Image]:
    """Add `count` completed images of that age, on record and on disk."""
    created_at = SystemClock().now() - age
    images_made = [
        _completed(an_image(created_at=created_at + timedelta(milliseconds=n), pinned=pinned)) for n in range(count)
    ]
    await asyncio.to_thread(_write_files, cluster.media, images_made)
    async with open_store(cluster.direct_settings.store_url, timeout_s=60) as store:
        for start in range(0, count, AT_ONCE):
            await asyncio.gather(*(store.insert(image) for image in images_made[start : start + AT_ONCE]))
    return images_made


def _completed(image: Image) -> Image:
    image = image.model_copy(update={"attempts": 1})
    return image.model_copy(
        update={
            "status": Status.COMPLETED,
            "image_file": images.image_key(image, Format.JPEG),
            "thumbnail": images.thumbnail_key(image, Format.JPEG),
            "format": Format.JPEG,
            "file_size": len(JPEG),
            "finished_at": image.created_at,
        }
    )


def _write_files(root: Path, images_made: list[Image]) -> None:
    for image in images_made:
        for key in (image.image_file, image.thumbnail):
            file = root / str(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(JPEG)


async def purge_with_kills(cluster: FaultCluster, *, old: int, kills: int, batch: int) -> PurgeResult:
    """Purge with a janitor that is killed `kills` times and restarted after each."""
    await add_completed(cluster, old, age=31 * DAY)
    kept = [*await add_completed(cluster, 20, age=DAY), *await add_completed(cluster, 20, age=40 * DAY, pinned=True)]
    # at the third batch: between the mark and the files, then between the files and the tombstones
    faults = [f"kill {'after mark' if number % 2 == 0 else 'after unlink'} 3" for number in range(kills)]
    await cluster.add_service("janitor", PURGE_BATCH=str(batch), FAULTS=faults[0] if faults else "")
    await cluster.start()
    began = time.monotonic()
    async with cluster.bus() as bus:
        now = SystemClock().now()
        await bus.tick(Tick(id=images.new_image_id(now), source="test", type="timer.purge", time=now, data=TickData()))
    for number in range(kills):
        await cluster.wait_killed("janitor", 120)
        await cluster.restart("janitor", faults[number + 1] if number + 1 < kills else "")
    async with _memory_over_time(cluster.services["janitor"].pid) as memory:
        await _until_gone(cluster, old)
    await until_quiet(cluster.direct_settings, 300)
    took_s = time.monotonic() - began
    async with open_store(cluster.direct_settings.store_url, timeout_s=60) as store:
        shown = await store.history("local", set(Status), limit=1000)
        ever = SystemClock().now() + 365 * DAY
        tombstones = await store.tombstones(tombstoned_before=ever, limit=old + 1)
    await cluster.sweep()
    files = files_in(cluster.media)
    expected = {str(key) for image in kept for key in (image.image_file, image.thumbnail)}
    assert {image.id for image in shown} == {image.id for image in kept}
    return PurgeResult(
        images=old,
        kills=kills,
        took_s=took_s,
        files_left=files ^ expected,
        kept={image.id for image in shown},
        peak_kib=max(memory),
        first_kib=memory[0],
        tombstones=len(tombstones),
    )


async def _until_gone(cluster: FaultCluster, old: int) -> None:
    """Wait until nothing is purgeable; the limit grows with the number of images."""
    cutoff = SystemClock().now() - 30 * DAY
    async with open_store(cluster.direct_settings.store_url, timeout_s=60) as store:

        async def is_gone() -> bool:
            return await store.count_purgeable(cutoff) == 0

        await until(is_gone, limit_s=60 + old / 100, pause_s=0.2)


@asynccontextmanager
async def _memory_over_time(pid: int) -> AsyncIterator[list[int]]:
    """The resident memory of a process over time, in KiB."""
    seen = [_resident_kib(pid)]

    async def sample() -> None:
        while True:
            await asyncio.sleep(0.2)
            seen.append(_resident_kib(pid))

    task = asyncio.create_task(sample())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


def _resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
