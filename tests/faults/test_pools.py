"""Two pools on a real broker, of which one has no generator for a while."""

import asyncio
import signal
from functools import partial

import aio_pika
import pytest

from common.bus.rabbitmq.topology import COMMANDS
from common.messages import GenerateImage, encode
from common.runtime.clock import SystemClock
from common.store.connect import open_store
from tests.cluster import FrontEnd
from tests.faults.test_announcements import NO_GENERATOR, painter_of, until_models
from tests.making import an_image, an_outbox
from tests.waiting import until

FAST = {"ANNOUNCE_INTERVAL": "0.5", "INFERENCE_TIMEOUT": "60", "CONCURRENT_REQUESTS": "2"}


async def add_generator(cluster, alias, url, **more):
    service = await cluster.add_service("generator", alias=alias, **{**FAST, "GENERATOR_CONCURRENCY": "1", **more})
    service.env["INFERENCE_SERVICE_URL"] = url
    await cluster.start(alias)
    return service


async def front_end_of(cluster, http):
    await cluster.add_service("api", **FAST)
    await cluster.add_service("janitor", **FAST)
    await cluster.start()
    return FrontEnd(http, cluster.urls["api"])


async def show(page, image):
    return (await page.get(f"/api/images/{image['id']}/"))[1]


@pytest.mark.long
@pytest.mark.slow
async def test_a_pool_without_a_generator_delays_no_other(cluster, http):
    """Its orders wait and say why, also one that waits for its picture; then its generator comes, and paints each once.

    The last order of the other pool is painted while they wait, although they came first.
    """
    page = await front_end_of(cluster, http)
    async with painter_of("sdxl") as sdxl, painter_of("flux") as flux:
        for double in (sdxl, flux):
            double.capabilities = {"models": [{"id": "sdxl" if double is sdxl else "flux"}]}
        await add_generator(cluster, "generator-1", sdxl.url)
        first = await add_generator(cluster, "generator-2", flux.url, GENERATOR_POOL="flux")
        await until_models(page, {"sdxl": True, "flux": True})
        assert (await page.final((await page.order(model="flux"))["id"]))["status"] == "completed"
        assert await first.stop() == 0
        await until_models(page, {"sdxl": True, "flux": False})

        waiting = [await page.order(model="flux") for _ in range(3)]
        asking = asyncio.create_task(
            page.post("/v1/images/generations", {"prompt": "x", "model": "flux", "width": 64, "height": 64})
        )
        for _ in range(3):
            assert (await page.final((await page.order(model="sdxl"))["id"]))["status"] == "completed"
        shown = [await show(page, image) for image in waiting]
        assert [(each["status"], each["waitingFor"], each["queuePlace"]) for each in shown] == [
            ("queued", NO_GENERATOR, None)
        ] * 3
        assert all(each["waitingSince"] for each in shown)
        assert not asking.done()

        await add_generator(cluster, "generator-3", flux.url, GENERATOR_POOL="flux")
        for image in waiting:
            assert (await page.final(image["id"]))["status"] == "completed"
        status, painted = await asking
        assert (status, painted["status"]) == (201, "completed")
        assert sorted(flux.keys[1:]) == sorted([*(image["id"] for image in waiting), painted["id"]])
        assert not set(flux.keys) & set(sdxl.keys)


@pytest.mark.slow
@pytest.mark.long
async def test_a_model_moves_while_orders_wait(cluster, http):
    """One order is being painted when its generator dies, one is queued behind it, two wait; each is painted once.

    The pool stays: another generator takes its place, which does not have the model any more.
    """
    page = await front_end_of(cluster, http)
    async with painter_of("sdxl", "flux") as old, painter_of("sdxl") as without, painter_of("flux") as new:
        old.capabilities = {"models": [{"id": "sdxl"}, {"id": "flux"}]}
        without.capabilities, new.capabilities = {"models": [{"id": "sdxl"}]}, {"models": [{"id": "flux"}]}
        old.always(old.hold)
        first = await add_generator(cluster, "generator-1", old.url)
        await until_models(page, {"sdxl": True, "flux": True})
        images = [await page.order(model="flux") for _ in range(4)]
        await asyncio.wait_for(old.held.wait(), 20)
        first.signal(signal.SIGKILL)
        await first.wait()

        await add_generator(cluster, "generator-2", without.url)
        await add_generator(cluster, "generator-3", new.url, GENERATOR_POOL="flux")
        found = [await page.final(image["id"]) for image in images]

        assert [image["status"] for image in found] == ["completed"] * 4
        assert sorted(new.keys) == sorted(image["id"] for image in images)
        assert without.keys == []


@pytest.mark.slow
async def test_messages_of_the_version_before_are_painted(cluster):
    """It knew one work queue: it sent each model there, and its records name no pool.

    Older ones still sent to the key that is only the intake now. Both models are painted, one by another pool.
    """
    clock = SystemClock()
    async with (
        painter_of("sdxl") as sdxl,
        painter_of("flux") as flux,
        cluster.bus() as bus,
        open_store(cluster.direct_settings.store_url, timeout_s=30) as store,
    ):
        sdxl.capabilities, flux.capabilities = {"models": [{"id": "sdxl"}]}, {"models": [{"id": "flux"}]}
        made = [an_image(model=model, created_at=clock.now()) for model in ("sdxl", "flux", "sdxl", "flux")]
        outbox = an_outbox(bus, store, clock, source="api")
        for image in made:
            await store.insert(image)
        for image in made[:2]:
            await outbox.dispatch(image)
        for image in made[2:]:
            await _send_as_0_1(cluster.bus_url, image)
        assert [(await store.get(image.id)).pool for image in made] == [None] * 4

        await cluster.add_service("janitor", **FAST)
        await cluster.start("janitor")
        await add_generator(cluster, "generator-1", sdxl.url)
        await add_generator(cluster, "generator-2", flux.url, GENERATOR_POOL="flux")

        async def is_completed(image):
            return (await store.get(image.id)).status == "completed"

        for image in made:
            await until(partial(is_completed, image))
        assert sorted(sdxl.keys) == sorted(image.id for image in made if image.model == "sdxl")
        assert sorted(flux.keys) == sorted(image.id for image in made if image.model == "flux")
        assert await bus.dead_letters(1) == []


async def _send_as_0_1(bus_url, image):
    command = GenerateImage(id=image.id, source=image.source, owner=image.owner, subject=image.id)
    async with await aio_pika.connect(bus_url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(COMMANDS)
        await exchange.publish(aio_pika.Message(encode(command)), "generate")
