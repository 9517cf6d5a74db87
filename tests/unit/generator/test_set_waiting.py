"""Images that a generator cannot take wait for their next turn."""

import asyncio
from functools import partial

from common.application.resources import Resources
from common.application.turns import LaterTurns
from common.bus.port import WorkQueue
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from services.generator.backends.configured import backends_at
from services.generator.worker import run_generator
from tests.announcing import FakeGenerator
from tests.inference_double import inference_double
from tests.making import an_image
from tests.unit.generator.test_generate import bench
from tests.waiting import until

QUICK = {"ANNOUNCE_INTERVAL": "0.5", "CONCURRENT_REQUESTS": "1"}


async def is_waiting(made, image_id):
    return (await made.store.get(image_id)).is_waiting


async def has_announced(made, count=1):
    return len(await made.store.list_entries("catalogue")) == count


async def test_an_image_of_a_missing_model_waits_then_is_painted(tmp_path):
    """Its slot is free, its attempts stay, its delivery is acknowledged. Later another generator has the model."""
    async with bench(tmp_path, **QUICK) as made:
        made.inference.capabilities = {"models": [{"id": "other"}]}
        await until(partial(has_announced, made))
        image_id = await made.order(slot="local:0")
        await until(partial(is_waiting, made, image_id))
        waiting = await made.store.get(image_id)

        assert (waiting.slot, waiting.attempts, waiting.failures, waiting.sent_at) == (None, 0, 0, None)
        assert waiting.not_before is not None
        assert await made.bus.waiting(WorkQueue.GENERATE) == 0
        assert (await made.final(await made.order(model="other", slot="local:0"))).status == "completed"

        async with inference_double() as second, asyncio.TaskGroup() as group:
            second.capabilities = {"models": [{"id": "sdxl"}]}
            resources = Resources(made.bus, made.store, made.media, made.clock)
            backends = backends_at([second.url], made.settings)
            group.create_task(run_generator(made.settings, resources, backends=backends, stopping=made.stopping))
            await until(partial(has_announced, made, 2))
            await made.outbox.dispatch_waiting("local")  # as a janitor, which the second generator wakes
            image = await made.final(image_id)
            made.stopping.set()

        assert (image.status, image.attempts) == ("completed", 1)
        assert (made.inference.keys.count(image_id), second.keys) == (0, [image_id])
        assert await made.bus.dead_letters(1) == []


async def test_a_command_sent_to_another_pool_since_is_dropped(tmp_path):
    """The image is on its way to the pool that has its model; a late command of its first dispatch does not stop it."""
    async with bench(tmp_path, **QUICK) as made:
        made.inference.capabilities = {"models": [{"id": "other"}]}
        await until(partial(has_announced, made))
        image = an_image(created_at=made.clock.now(), pool="flux", sent_at=made.clock.now())
        await made.store.insert(image)
        await made.bus.send(GenerateImage(id=image.id, source="api", owner="local", subject=image.id))
        await made.final(await made.order(model="other"))  # it comes after that command

        assert await made.store.get(image.id) == image


async def test_a_model_of_another_pool_is_sent_there_at_once(tmp_path):
    """No delay: its next turn does not lead back to this generator."""
    async with bench(tmp_path, **QUICK) as made:
        made.inference.capabilities = {"models": [{"id": "other"}]}
        await until(partial(has_announced, made))
        await FakeGenerator(made.store, made.clock, "b", pool="flux").offer("sdxl")
        image_id = await made.order(slot="local:0")

        async def is_in_flux():
            return await made.bus.waiting(WorkQueue.GENERATE, pool="flux") == 1

        await until(is_in_flux)
        image = await made.store.get(image_id)
        assert (image.pool, image.slot, image.attempts, image.not_before) == ("flux", "local:0", 0, None)
        assert made.inference.keys == []


async def test_turns_are_given_later_once_for_each_owner():
    """Of two times of one owner the earlier counts; an owner may be added again."""
    given, all_given = [], asyncio.Event()

    async def give(owner):
        given.append(owner)
        if given.count("bob") == 2:
            all_given.set()
        elif owner == "bob":
            later.add("bob", 0)

    later = LaterTurns(give, SystemClock())
    for owner, delay_s in (("bob", 0.05), ("ada", 60), ("ada", 0.01), ("eve", 60)):
        later.add(owner, delay_s)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(later.run())
        await all_given.wait()
        task.cancel()

    assert given == ["ada", "bob", "bob"]
