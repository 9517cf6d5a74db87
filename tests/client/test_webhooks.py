"""Webhooks while the process that delivers them is killed a hundred times."""

import asyncio
import random
import signal

import pytest
from standardwebhooks import Webhook

from darkroom_client import AsyncDarkroom, DarkroomError, Retries
from tests.cluster import embedded
from tests.unit.webhooks.support import SECRET, receiving, status
from tests.waiting import until

pytestmark = pytest.mark.clients
KILLS = 100
ORDERS = 40
SETTINGS = {
    "WEBHOOK_SECRETS": SECRET,
    "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
    "WEBHOOK_RETRIES": ",".join(["1s"] * 20),
    "WEBHOOK_TIMEOUT": "1s",
    "STORE_TIMEOUT": "500ms",
}


@pytest.mark.timeout(1800)
async def test_100_kills_lose_no_delivery(tmp_path):
    """All of Darkroom in one process, killed at random moments while images are painted and delivered."""
    async with receiving(status(204)) as receiver, embedded(tmp_path, **SETTINGS) as cluster:
        url, service = receiver.url("127.0.0.1"), cluster.services["up"]
        async with AsyncDarkroom(cluster.url, trust_env=False, retries=Retries(patience_s=60)) as darkroom:
            ordering = asyncio.create_task(order_all(darkroom, url))
            for _ in range(KILLS):
                await asyncio.sleep(random.uniform(0, 0.3))  # the moment of a kill, not a wait for something
                service.signal(signal.SIGKILL)
                await service.wait()
                await cluster.start("up")
            ids = await ordering
            await until(lambda: all(ends_of(receiver, image_id) for image_id in ids), limit_s=300)

    for image_id in ids:
        assert len(ends_of(receiver, image_id)) == 1, image_id


async def order_all(darkroom, url):
    ids = []
    for count in range(ORDERS):
        while True:
            try:
                handle = await darkroom.submit(
                    f"order {count}", idempotency_key=f"order-{count}", webhook=url, width=64, height=64, steps=2
                )
            except DarkroomError:
                await asyncio.sleep(0.2)
            else:
                break
        ids.append(handle.id)
        await asyncio.sleep(0.5)
    return ids


def ends_of(receiver, image_id):
    """The ids of the deliveries of its end: one, however often it has arrived."""
    found = set()
    for headers, body in receiver.got:
        data = Webhook(SECRET).verify(body, headers)["data"]
        if data["id"] == image_id and data["status"] == "completed":
            found.add(headers["webhook-id"])
    return found
