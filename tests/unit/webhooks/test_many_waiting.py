"""Ten thousand deliveries that wait."""

import asyncio
import tracemalloc

import pytest

from common.application.webhooks.deliveries import Deliveries
from tests.making import an_image
from tests.unit.webhooks.support import delivering, receiving, recorded, status
from tests.waiting import until

WAITING = 10_000
MORE_BYTES = 20_000_000  # 10,000 bodies of 1 kB with their places would take 30 MB as objects


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_10000_waiting_deliveries_take_no_memory(store, clock):
    """All are due at a host that refuses, so each is tried and waits again; another host is served meanwhile.

    It is served although the share of the first leaves one slot only: what waits has none.
    """
    async with receiving(status(503, Retry_After="3600")) as busy, receiving() as quick:
        for _ in range(WAITING // 500):  # together: the store commits many in one write
            await asyncio.gather(*(recorded(store, clock, busy.url("busy.test")) for _ in range(500)))
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            async with delivering(store, clock, WEBHOOK_CONCURRENCY="5", WEBHOOK_HOST_CONCURRENCY="4"):
                image = an_image(created_at=clock.now(), webhook=quick.url("quick.test"))
                (expected,) = await recorded(store, clock, image.webhook, image=image)
                await until(lambda: quick.ids == [expected], limit_s=60)
                assert len(busy.got) < WAITING // 10
                await until(lambda: len(busy.got) > 100, limit_s=300)
                busy.got.clear()  # the test's own copies
                _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak - before < MORE_BYTES
    assert [each.type for each in await Deliveries(store, clock).of_image(image.id)] == ["image.completed"]
