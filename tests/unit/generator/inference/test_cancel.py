"""A cancelled image stops its own work at the server, through a running generator."""

import asyncio

import pytest

from common.domain import transitions
from common.store.port import change
from tests.engines.cog import Cog
from tests.engines.engine import EngineFake, running
from tests.engines.sdapi import SdApi
from tests.engines.sdapi_programs import FakeProgram
from tests.unit.generator.test_generate import bench

ENGINES: dict[str, tuple] = {
    "A1111": (lambda: SdApi(FakeProgram.A1111), "sdapi", {"model": "tiny-sd"}),
    "SD.Next": (lambda: SdApi(FakeProgram.SDNEXT), "sdapi", {"model": "Diffusers/tiny-sd"}),
    "cog": (Cog, "cog", {}),
}


@pytest.mark.parametrize("name", ENGINES)
async def test_a_cancel_stops_the_work_and_the_next_is_painted(tmp_path, name):
    make, scheme, fields = ENGINES[name]
    engine: EngineFake = make()
    engine.hold()
    async with running(engine), bench(tmp_path, inference_url=f"{scheme}+{engine.url}") as made:
        image_id = await made.order(**fields)
        await engine.held.wait()
        waiting = await made.order(**fields)

        cancelled = await change(made.store, image_id, lambda image: transitions.cancel(image, now=made.clock.now()))
        await made.outbox.publish_pending(cancelled)
        async with asyncio.timeout(2):
            while not engine.stopped:
                engine.idle.clear()
                await engine.idle.wait()
        engine.release()

        assert (await made.final(waiting)).status == "completed"
        assert (await made.store.get(image_id)).status == "cancelled"
        assert (len(engine.stopped), len(engine.painted)) == (1, 1)
