"""The intake of orders: recorded at once, painted in turn."""

import asyncio
import json
from datetime import timedelta

import pytest

from common.application.fleet.announcements import CATALOGUES
from common.bus.port import WorkQueue
from common.domain.images import Lease, new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage, encode
from tests.inference_double import status
from tests.making import NOON, an_image
from tests.unit.generator.test_generate import bench
from tests.waiting import until

LINE_OF_TWO = {"CONCURRENT_REQUESTS": "2", "PUBLISHER_WAITING_REQUESTS": "2"}


def an_order(made, owner="ada") -> GenerateImage:
    request = GenerationRequest(prompt="a lighthouse", width=64, height=64)
    return GenerateImage(id=new_image_id(made.clock.now()), source="shop", owner=owner, data=request)


async def recorded(made, orders):
    """The records of the orders, once all are there."""

    async def found():
        return len(await made.store.get_several([each.id for each in orders])) == len(orders)

    await until(found)
    return [await made.store.get(each.id) for each in orders]


async def test_orders_beyond_the_slots_wait_on_record(tmp_path):
    """Twelve orders of one owner and one of another: two and one are dispatched, and all end in their order."""
    async with bench(tmp_path, CONCURRENT_REQUESTS="2", GENERATOR_CONCURRENCY="2") as made:
        made.inference.always(made.inference.hold)
        orders, other = [an_order(made) for _ in range(12)], an_order(made, owner="bob")
        for order in [*orders, other]:
            await made.bus.send(order)
        images = await recorded(made, [*orders, other])
        await made.inference.held.wait()

        assert sum(image.is_waiting for image in images) == 10
        assert images[-1].slot == "bob:0"
        assert await made.store.count_waiting("ada", limit=100) == 10

        made.inference.released.set()
        ended = [await made.final(image.id) for image in images]
        assert {image.status for image in ended} == {"completed"}
        waited = {image.id for image in images if image.is_waiting}
        in_order = sorted(ended, key=lambda image: (image.created_at, image.id))
        dispatched = [image.dispatched_at for image in in_order if image.id in waited]
        assert dispatched == sorted(dispatched)
        assert len(made.inference.keys) == 13


async def test_what_an_order_leaves_open_is_chosen(tmp_path):
    """The only back end has no `sdxl`: a command that names no model gets the one that is there."""
    async with bench(tmp_path) as made:
        made.inference.capabilities = {"models": [{"id": "flux", "max_width": 512, "samplers": ["DDIM"]}]}
        await until(lambda: _announced(made))
        order = {"specversion": "1.0", "type": "image.generate", "source": "shop", "owner": "ada"}
        image_id = new_image_id(made.clock.now())
        body = json.dumps({**order, "id": image_id, "data": {"prompt": "a lighthouse", "height": 64}})
        made.bus.inject(WorkQueue.INTAKE, body.encode())
        image = await made.final(image_id)

    used = (image.model, image.width, image.height, image.parameters.sampler)
    assert (image.status, used) == ("completed", ("flux", 512, 64, "DDIM"))


async def _announced(made):
    return bool(await made.store.list_entries(CATALOGUES))


async def test_an_order_beyond_the_line_is_a_dead_letter(tmp_path):
    async with bench(tmp_path, **LINE_OF_TWO) as made:
        made.inference.always(made.inference.hold)
        for _ in range(4):  # one after the other: a line that fills is not left for a slot that is just being taken
            await made.bus.send(order := an_order(made))
            await recorded(made, [order])
        await until(lambda: _waits(made, 2))
        await made.bus.send(refused := an_order(made))
        await until(lambda: made.bus.dead_letters(1))

        [letter] = await made.bus.dead_letters(10)
        assert letter.reason.startswith("limit_reached: 2 images wait already")
        assert await made.store.get(refused.id) is None
        made.inference.released.set()


async def test_an_order_is_not_dated_back_with_the_clock(tmp_path, monkeypatch):
    async with bench(tmp_path) as made:
        now, begun = made.clock.now, made.clock.now()
        monkeypatch.setattr(made.clock, "now", lambda: now() - timedelta(hours=1))
        await made.bus.send(order := an_order(made))

        [image] = await recorded(made, [order])

        assert image.created_at >= begun


async def _waits(made, count):
    return await made.store.count_waiting("ada", limit=100) == count


async def test_orders_are_recorded_while_the_circuit_is_open(tmp_path):
    async with bench(tmp_path, CIRCUIT_FAILURES="1", CIRCUIT_PAUSE="3600", CONCURRENT_REQUESTS="2") as made:
        made.inference.always(status(503))
        await made.order(owner="bob")
        await until(lambda: made.inference.keys)
        orders = [an_order(made) for _ in range(5)]
        for order in orders:
            await made.bus.send(order)

        images = await recorded(made, orders)

        assert sum(image.is_waiting for image in images) == 3
        assert await made.bus.waiting(WorkQueue.INTAKE) == 0


async def test_a_repeated_order_is_one_image(tmp_path):
    async with bench(tmp_path, CONCURRENT_REQUESTS="1") as made:
        made.inference.always(made.inference.hold)
        orders = [an_order(made) for _ in range(2)]
        await asyncio.gather(*(made.bus.send(order) for order in orders * 10))
        await recorded(made, orders)
        await until(lambda: _is_empty(made, WorkQueue.INTAKE))

        made.inference.released.set()
        ended = [await made.final(order.id) for order in orders]

        assert [(image.status, image.attempts) for image in ended] == [("completed", 1)] * 2
        assert sorted(made.inference.keys) == sorted(order.id for order in orders)


async def _is_empty(made, queue):
    return await made.bus.waiting(queue) == 0


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_command_of_an_older_release_is_painted(tmp_path, is_sent):
    """It waits in the queue that holds orders now, and its image was dispatched without turns."""
    async with bench(tmp_path) as made:
        now = made.clock.now()
        image = an_image(created_at=now, sent_at=now if is_sent else None, slot="local:0")
        await made.store.insert(image)
        command = GenerateImage(id=image.id, source="api", owner=image.owner, subject=image.id)
        made.bus.inject(WorkQueue.INTAKE, encode(command))

        ended = await made.final(image.id)

        assert (ended.status, ended.attempts) == ("completed", 1)
        assert await made.bus.dead_letters(1) == []


async def test_a_command_for_a_waiting_image_paints_nothing(tmp_path):
    """As it is left over if the image was set waiting after its command was sent."""
    async with bench(tmp_path, CONCURRENT_REQUESTS="1") as made:
        now = made.clock.now()
        lease = Lease(token="t", worker="w", until=NOON)
        holder = an_image(created_at=now, slot="local:0", status="running", lease=lease)
        image = an_image(created_at=now, waiting_since=now)
        for each in (holder, image):
            await made.store.insert(each)
        for queue in (WorkQueue.GENERATE, WorkQueue.INTAKE):
            made.bus.inject(queue, encode(GenerateImage(id=image.id, source="api", owner="local")))
        last = await made.order(owner="bob")
        await made.final(last)

        assert made.inference.keys == [last]
        assert await made.store.get(image.id) == image
