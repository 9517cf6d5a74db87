"""Orders for several images, from other services."""

import asyncio

import pytest

from common.bus.port import WorkQueue
from common.domain.requests import GenerationRequest
from common.messages import CancelData, GenerateImage
from tests.borders.generator.orders import a_cancel, an_order
from tests.waiting import until


def a_batch_order(made, count, **fields) -> GenerateImage:
    request = GenerationRequest(prompt="a lighthouse", width=64, height=64, seed=7, num_images=count)
    return an_order(made, data=request, **fields)


async def members_of(made, order):
    return await made.store.batch_members(order.id.lower())


async def all_final(made, order) -> bool:
    members = await members_of(made, order)
    return len(members) == order.data.num_images and all(image.status.is_final for image in members)


@pytest.mark.border(rule="A1")
async def test_an_order_for_several_makes_each_once(bench):
    """The order comes three times, once with the id in capitals; each image is painted once, with its own seed."""
    order = a_batch_order(bench, 4)
    spelled = a_batch_order(bench, 4, image_id=order.id.upper())

    await asyncio.gather(*(bench.bus.send(each) for each in (order, spelled, order)))
    await until(lambda: all_final(bench, order))
    await bench.bus.send(order)
    await until(lambda: nothing_waits(bench))

    members = await members_of(bench, order)
    assert [image.status for image in members] == ["completed"] * 4
    assert [image.parameters.seed for image in members] == [7, 8, 9, 10]
    assert sorted(bench.inference.keys) == sorted(image.id for image in members)
    assert {(image.source, image.owner) for image in members} == {("newsletter", "ada")}


async def nothing_waits(made) -> bool:
    return not any([await made.bus.waiting(queue) for queue in (WorkQueue.INTAKE, WorkQueue.GENERATE)])


@pytest.mark.border(rule="A6")
@pytest.mark.parametrize("of_all", [True, False])
async def test_a_cancel_before_an_order_for_several(bench, of_all):
    """The cancel names the first image: it cancels that one, or the whole batch."""
    order = a_batch_order(bench, 3)

    await bench.bus.send(a_cancel(order.id, data=CancelData(batch=of_all)))
    await until(lambda: bench.store.get_entry("cancelled", f"{order.id}:newsletter"))
    await bench.bus.send(order)
    await until(lambda: all_final(bench, order))

    ends = [image.status for image in await members_of(bench, order)]
    assert ends == (["cancelled"] * 3 if of_all else ["cancelled", "completed", "completed"])


@pytest.mark.border(rule="A6")
async def test_a_cancel_of_all_while_they_are_painted(bench):
    bench.inference.always(bench.inference.hold)
    order = a_batch_order(bench, 10)
    await bench.bus.send(order)
    await until(lambda: len(bench.inference.keys) == 2)

    await bench.bus.send(a_cancel(order.id, data=CancelData(batch=True)))
    await until(lambda: all_final(bench, order))

    assert {image.status for image in await members_of(bench, order)} == {"cancelled"}
    assert len(bench.inference.keys) == 2, "no waiting image was started in between"
