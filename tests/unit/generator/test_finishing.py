"""A slot is free when its picture is painted, while the picture is still being stored."""

import asyncio
from contextlib import nullcontext, suppress

import pytest

from common.bus.port import WorkQueue
from common.domain.images import Status
from services.generator.backends.finishing import AT_ONCE, Finishing, held
from tests.unit.generator.test_generate import bench
from tests.unit.generator.test_no_file_left import GatedMedia
from tests.waiting import until


async def test_a_slot_paints_while_its_last_picture_is_stored(tmp_path):
    """Of three images for one slot the first is being stored and the second painted; its slot waits for the first."""
    async with bench(tmp_path, GENERATOR_CONCURRENCY="1") as made:
        gated = GatedMedia(made.media)
        ids = [await made.order(width=64, height=48) for _ in range(3)]
        await gated.begun.wait()
        await until(lambda: len(made.inference.keys) == 2)
        await made.events(ids[1], "started")
        statuses = [(await made.store.get(image_id)).status for image_id in ids]
        waiting = await made.bus.waiting(WorkQueue.GENERATE)
        gated.gate.set()
        finals = [(await made.final(image_id)).status for image_id in ids]

    assert statuses == [Status.RUNNING, Status.RUNNING, Status.QUEUED]
    assert waiting == 1
    assert finals == [Status.COMPLETED] * 3
    assert made.inference.keys == ids


async def test_a_stop_gives_a_painted_picture_back(tmp_path):
    """Its message was acknowledged, so another one is sent."""
    async with bench(tmp_path, GRACE_PERIOD="0.1") as made:
        gated = GatedMedia(made.media)
        image_id = await made.order(width=64, height=48)
        await gated.begun.wait()
        made.stopping.set()
        await asyncio.sleep(0.3)  # the grace period ends meanwhile
        gated.gate.set()
        await made.task

        image = await made.store.get(image_id)
        waiting = await made.bus.waiting(WorkQueue.GENERATE)

    assert (image.status, image.failures, waiting) == (Status.QUEUED, 0, 1)
    assert made.files() == []


class SlotsOf:
    """As many slots as pictures here, so that none is held."""

    slots = 100


@pytest.fixture
def finishing():
    return Finishing(SlotsOf())  # type: ignore[arg-type]  # only their number is read


class FinishedPictures:
    """FinishedPictures that are finished until told otherwise."""

    def __init__(self, finishing, count):
        self.active = 0
        self.end = asyncio.Event()
        self.tasks = [asyncio.create_task(self._finish(finishing)) for _ in range(count)]

    async def _finish(self, finishing):
        async with held(nullcontext()) as (slot, _), finishing.picture(slot):
            self.active += 1
            await self.end.wait()


async def all_tasks_ran():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_picture_is_finished_beside_starts(finishing):
    with finishing.start():
        pictures = FinishedPictures(finishing, 20)
        await all_tasks_ran()
        beside = pictures.active
    await all_tasks_ran()
    after = pictures.active
    pictures.end.set()
    await asyncio.gather(*pictures.tasks)

    assert (beside, after, pictures.active) == (1, AT_ONCE, 20)


async def test_a_cancelled_picture_gives_its_turn_to_the_next(finishing):
    pictures = FinishedPictures(finishing, AT_ONCE + 2)
    await all_tasks_ran()
    pictures.tasks[AT_ONCE].cancel()  # it waits
    pictures.tasks[0].cancel()  # it is being finished
    with suppress(asyncio.CancelledError):
        await pictures.tasks[0]
    await all_tasks_ran()
    active = pictures.active
    pictures.end.set()
    await asyncio.gather(*pictures.tasks, return_exceptions=True)

    assert active == AT_ONCE + 1
    assert pictures.tasks[AT_ONCE].cancelled()
