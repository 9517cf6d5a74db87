"""Cancels of other services that come before their orders."""

import asyncio
from functools import partial

import pytest

from common.bus.port import WorkQueue
from common.messages import GenerateImage
from tests.borders.generator.orders import a_cancel, an_order, is_final
from tests.waiting import until


@pytest.mark.border(rule="A10")
async def test_a_cancel_that_comes_first_counts(bench):
    bench.inference.always(bench.inference.hold)  # nothing is painted to its end
    orders = [an_order(bench) for _ in range(40)]

    async def cancelled_first(number: int, order: GenerateImage) -> None:
        await bench.bus.send(a_cancel(order.id if number % 2 else order.id.upper()))
        await asyncio.sleep(number % 10 * 0.005)
        await bench.bus.send(order)

    await asyncio.gather(*(cancelled_first(*each) for each in enumerate(orders)))
    for order in orders:
        await until(partial(is_final, bench, order.id))
        await bench.events(order.id, "cancelled")

    assert {(await bench.store.get(order.id)).status for order in orders} == {"cancelled"}
    assert await bench.bus.waiting(WorkQueue.CANCEL) == 0
    assert bench.files() == []


@pytest.mark.border(rule="A10")
@pytest.mark.parametrize("fields", [{"source": "shop"}, {"owner": "bob"}], ids=repr)
async def test_an_early_cancel_of_another_sender_does_not_count(bench, fields):
    order = an_order(bench)
    await bench.bus.send(a_cancel(order.id, **fields))
    await until(lambda: _is_remembered(bench, order.id, fields.get("source", "newsletter")))

    await bench.bus.send(order)
    await until(lambda: is_final(bench, order.id))

    assert (await bench.store.get(order.id)).status == "completed"


async def _is_remembered(made, image_id, source) -> bool:
    return await made.store.get_entry("cancelled", f"{image_id}:{source}") is not None
