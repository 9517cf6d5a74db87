"""Webhooks from an order to its receiver, in one process and as a service of its own."""

import signal

import aiohttp
import pytest
from standardwebhooks import Webhook

from common.application.api_keys import ApiKeyStore
from common.bus.connect import open_bus
from common.domain.images import new_image_id
from common.domain.requests import GenerationRequest
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from darkroom_client import AsyncDarkroom, Forbidden, OrderOptions
from tests.cluster import ORDER, FrontEnd, embedded, separate
from tests.security.callers import SIGNING
from tests.unit.webhooks.support import SECRET, arrivals_of, hang, receiving, status
from tests.waiting import until

SETTINGS = {"WEBHOOK_SECRETS": SECRET, "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1,localhost", "WEBHOOK_RETRIES": "100ms,1s,1s"}


def small(webhook) -> OrderOptions:
    return {"width": 64, "height": 64, "steps": 2, "webhook": webhook}


def events_of(receiver, image_id):
    return list(arrivals_of(receiver, image_id).values())


async def life_of(receiver, image_id):
    await until(lambda: len(events_of(receiver, image_id)) == 2)
    return events_of(receiver, image_id)


async def test_an_order_of_the_client_library_is_delivered(tmp_path):
    """In one process. Each image of a batch has its own; an address that is not allowed is refused."""
    async with (
        receiving(status(500), status(204)) as receiver,
        embedded(tmp_path, **SETTINGS) as cluster,
        AsyncDarkroom(cluster.url, trust_env=False) as darkroom,
    ):
        images = await darkroom.generate_batch("a lighthouse", 2, **small(receiver.url()))
        for image in images:
            assert await life_of(receiver, image.id) == ["image.started", "image.completed"]
        with pytest.raises(Forbidden):
            await darkroom.submit("a lighthouse", **small("http://example.org/"))


async def test_orders_with_a_key_use_its_webhook_and_show_their_log(tmp_path):
    """By REST, as a batch and by OpenAI's API. An order can name another; each has a log without secrets."""
    settings = {**SETTINGS, "API_KEYS": "true", "MEDIA_SIGNING_KEYS": SIGNING}
    async with receiving() as of_key, receiving() as of_order, embedded(tmp_path, **settings) as cluster:
        hidden = of_key.url("127.0.0.1", "/secret?token=7")
        async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=30) as store:
            key = await ApiKeyStore(store, SystemClock()).create("ada", webhook=hidden)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
            page = FrontEnd(http, cluster.url)
            one = (await page.order())["id"]
            batch = [image["id"] for image in (await page.order(num_images=2))["images"]]
            other = (await page.order(webhook=of_order.url("127.0.0.1")))["id"]
            openai = {"prompt": "a lighthouse", "size": "64x64", "steps": 2}
            assert (await page.post("/openai/v1/images/generations", openai))[0] == 200
            (latest, *_) = (await page.get("/api/images/history/"))[1]["images"]
            for receiver, image_id in [*((of_key, id_) for id_ in (one, *batch, latest["id"])), (of_order, other)]:
                assert await life_of(receiver, image_id) == ["image.started", "image.completed"]
            assert {data["data"]["id"] for data in map(_verified, of_order.got)} == {other}
            await until(lambda: _is_delivered(page, f"{one}/deliveries/", 2))
            await until(lambda: _is_delivered(page, f"{batch[1]}/deliveries/?batch=true", 4))
            status, log = await page.get(f"/api/images/{one}/deliveries/")

    assert status == 200
    started, completed = log["deliveries"]
    assert started["id"] != completed["id"]
    assert {name: completed[name] for name in ("imageId", "type", "host", "state", "nextTryAt")} == {
        "imageId": one,
        "type": "image.completed",
        "host": "127.0.0.1",
        "state": "delivered",
        "nextTryAt": None,
    }
    assert [(each["status"], each["error"]) for each in completed["tries"]] == [(204, None)]
    for secret in ("secret", "token=7", ORDER["prompt"], SECRET):
        assert str(secret) not in str(log)


def _verified(got):
    headers, body = got
    return Webhook(SECRET).verify(body, headers)


async def _is_delivered(page, path, count):
    _, log = await page.get(f"/api/images/{path}")
    return [delivery["state"] for delivery in log["deliveries"]] == ["delivered"] * count


@pytest.mark.long
async def test_a_service_that_is_killed_delivers_what_was_due(tmp_path, vhost):
    """On RabbitMQ: it is killed while a receiver holds its tries, and an order by bus comes while it is away."""
    async with receiving(hang, hang, status(204)) as receiver, separate(tmp_path, vhost, **SETTINGS) as cluster:
        service = cluster.add("webhooks", WEBHOOK_TIMEOUT="1s", STORE_TIMEOUT="500ms")
        await cluster.start("webhooks")
        async with AsyncDarkroom(cluster.url, trust_env=False) as darkroom:
            first = (await darkroom.generate("a lighthouse", **small(receiver.url()))).id
        await until(lambda: receiver.got)
        service.signal(signal.SIGKILL)
        await service.wait()
        second = await _order_by_bus(vhost, receiver.url())
        await cluster.start("webhooks")
        for image_id in (first, second):
            assert await life_of(receiver, image_id) == ["image.started", "image.completed"]


async def _order_by_bus(vhost, url):
    clock = SystemClock()
    command = GenerateImage(
        id=new_image_id(clock.now()),
        source="newsletter",
        owner="local",
        time=clock.now(),
        data=GenerationRequest(prompt="a lighthouse", webhook=url, width=64, height=64, steps=2),
    )
    async with open_bus(read_settings({"BUS_URL": vhost}), name="newsletter", clock=clock) as bus:
        await bus.send(command)
    return command.id
