"""The place in the queue: what an answer says of it, and whom a websocket tells that it has changed."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import aiohttp
import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.domain import transitions
from common.domain.images import Failure, Lease
from common.media.connect import open_media
from common.messages import Deleted, ImageDeleted
from common.runtime.clock import ManualClock, SystemClock
from common.runtime.settings import read_settings
from common.store.port import change
from common.store.sqlite import SqliteStore
from services.api.events.live import ClientEvent, LiveEvents, plain
from services.api.events.queue_positions import MAX_POSITION, MAX_RANKED, OwnerPositions, QueuePositions
from services.api.routes.websocket import Client
from services.api.service import api_running
from tests.cluster import ORDER
from tests.making import NOON, an_image, an_outbox
from tests.security import callers

CLOCK = SystemClock()
HOUR = timedelta(hours=1)
LIMIT_S = 5


class CountingStore(SqliteStore):
    """Counts how often the queue is looked at for websockets."""

    looks = 0

    async def waiting(self, now, *, limit):
        self.looks += 1
        return await super().waiting(now, limit=limit)


class Shop:
    """An api with nobody behind it: what is ordered waits until a test takes it."""

    def __init__(self, http, url, bus, store):
        self.http = http
        self.url = url
        self.store = store
        self.outbox = an_outbox(bus, store, CLOCK)
        self.lease = Lease(token="t", worker="w", until=CLOCK.now() + HOUR)

    async def order(self, owner):
        headers = {**bearer(owner), "Prefer": "respond-async"}
        async with self.http.post(f"{self.url}/v1/images/generations", json=ORDER, headers=headers) as response:
            assert response.status == 202
            return await response.json()

    async def image(self, owner, image_id):
        async with self.http.get(f"{self.url}/api/images/{image_id}/", headers=bearer(owner)) as response:
            return await response.json()

    async def take(self, image_id):
        """As a generator does."""
        transition = partial(transitions.claim, lease=self.lease, now=CLOCK.now(), deadline=HOUR)
        image = await change(self.store, image_id, transition)
        await self.outbox.publish_started(image)
        return image

    async def retry(self, image, *, not_before):
        error = Failure(code="inference_failed", detail="no")
        more = {"error": error, "not_before": not_before, "counts": True, "now": CLOCK.now()}
        image = await change(self.store, image.id, partial(transitions.retry, lease=self.lease, attempt=1, **more))
        await self.outbox.publish_queued(image)

    @asynccontextmanager
    async def socket(self, owner):
        async with self.http.ws_connect(f"{self.url}/ws", headers=bearer(owner)) as socket:
            assert (await socket.receive_json(timeout=LIMIT_S))["type"] == "hello"
            yield socket


def bearer(owner):
    return {"Authorization": f"Bearer {callers.token(owner)}"}


async def told(socket, queue_positions):
    """Every frame up to the one that tells these places."""
    frames: list[dict] = []
    async with asyncio.timeout(LIMIT_S):
        while not frames or frames[-1] != {"type": "places", "places": queue_positions}:
            frames.append(await socket.receive_json())
    return frames


@pytest.fixture
def interval():
    return 0.01


@pytest.fixture
async def shop(tmp_path, interval):
    named = {"API_PORT": "0", "CONCURRENT_REQUESTS": "0", "PLACES_INTERVAL": str(interval)}
    settings = read_settings({**callers.settings_of(), **named})
    async with AsyncExitStack() as opened:
        bus = await opened.enter_async_context(MemoryBus())
        store = await opened.enter_async_context(CountingStore.open(tmp_path / "darkroom.db", timeout_s=LIMIT_S))
        media = await opened.enter_async_context(open_media(str(tmp_path / "media")))
        port = await opened.enter_async_context(
            api_running(settings, Resources(bus, store, media, CLOCK), inference_url=None)
        )
        http = await opened.enter_async_context(aiohttp.ClientSession())
        yield Shop(http, f"http://127.0.0.1:{port}", bus, store)


# ---------------------------------------------------------------- REST


async def test_an_answer_says_the_place_among_the_orders_of_all(shop):
    answers = [await shop.order(owner) for owner in ("ada", "bob", "ada")]
    first, second, third = (answer["id"] for answer in answers)

    assert [answer["queuePlace"] for answer in answers] == [1, 2, 3]
    await shop.take(first)
    found = [
        await shop.image("ada", first),
        await shop.image("bob", second),
        await shop.image("ada", third),
    ]

    assert [(image["status"], image["queuePlace"]) for image in found] == [
        ("running", None),
        ("queued", 1),
        ("queued", 2),
    ]


async def test_who_waits_for_a_retry_has_no_place_until_it_has_come(shop):
    first, second = [await shop.order("ada") for _ in range(2)]
    await shop.retry(await shop.take(first["id"]), not_before=CLOCK.now() + HOUR)

    assert [(await shop.image("ada", each["id"]))["queuePlace"] for each in (first, second)] == [None, 1]


async def test_an_answer_without_a_place_is_better_than_none(shop, tmp_path):
    async with CountingStore.open(tmp_path / "closed.db", timeout_s=LIMIT_S) as closed:
        queue_positions = QueuePositions(closed, a_live(), CLOCK, interval_s=1)
        assert await queue_positions.place(an_image()) == 1

    assert await queue_positions.place(an_image()) is None


# ---------------------------------------------------------------- websocket


async def test_a_place_falls_as_others_are_taken_and_nobody_hears_of_others(shop):
    async with shop.socket("ada") as ada, shop.socket("bob") as bob:
        first, second = [(await shop.order("ada"))["id"] for _ in range(2)]
        his = (await shop.order("bob"))["id"]
        heard = await told(ada, {first: 1, second: 2})
        heard_by_bob = await told(bob, {his: 3})

        await shop.take(first)
        heard += await told(ada, {second: 1})
        heard_by_bob += await told(bob, {his: 2})
        await shop.take(second)
        heard += await told(ada, {})
        heard_by_bob += await told(bob, {his: 1})

    assert his not in json.dumps(heard)
    assert first not in json.dumps(heard_by_bob)
    assert second not in json.dumps(heard_by_bob)
    assert all("cursor" not in frame for frame in heard if frame["type"] == "places")


@pytest.mark.parametrize("interval", [3600])
async def test_for_who_waits_for_nothing_the_queue_is_not_looked_at(shop):
    async with shop.socket("ada") as ada:
        await shop.take((await shop.order("bob"))["id"])
        await shop.order("bob")
        mine = (await shop.order("ada"))["id"]

        # the first look in an hour
        assert [frame["type"] for frame in await told(ada, {mine: 2})] == ["image.queued", "places"]

    assert shop.store.looks == 1


async def test_who_comes_later_is_told_of_what_waits_already(shop):
    await shop.order("bob")
    mine = (await shop.order("ada"))["id"]

    async with shop.socket("ada") as one, shop.socket("ada") as another:
        for socket in (one, another):
            assert await told(socket, {mine: 2}) == [{"type": "places", "places": {mine: 2}}]


async def test_of_places_a_slow_client_gets_the_newest_only():
    sent = []

    async def send_str(frame):
        sent.append(frame)

    client = Client(SimpleNamespace(send_str=send_str), None, buffer=8)  # type: ignore[arg-type]
    for number in range(20):
        client.on_queue_positions(f"frame {number}")
    writing = asyncio.create_task(client.write())
    await asyncio.sleep(0)
    writing.cancel()

    assert sent == ["frame 19"]
    assert not client.too_slow.is_set()


# ---------------------------------------------------------------- what is told, look by look


def a_live():
    return LiveEvents(MemoryBus(), SimpleNamespace(), CLOCK, backlog=10, lookback_s=1, poll_s=1)


def a_waiting(*images):
    waiting = OwnerPositions(lambda: None)
    waiting.expect(images)
    return waiting


def looked(waiting, queue_positions, now=NOON):
    """What one look tells a websocket that was there at the look before, or None."""
    heard: list[str] = []
    waiting.told = {heard.append: next(iter(waiting.told.values()), {})}
    waiting.look(queue_positions, now)
    return json.loads(heard[0])["places"] if heard else None


def test_what_has_not_changed_is_not_told_again():
    image = an_image()
    waiting = a_waiting(image)

    found = [looked(waiting, {image.id: place}) for place in (3, 3, 2)]

    assert found == [{image.id: 3}, None, {image.id: 2}]


def test_beyond_what_is_told_apart_one_place_stands_for_all():
    image, delayed = an_image(), an_image(not_before=NOON + HOUR)
    others = {f"other {number}": number for number in range(1, MAX_RANKED + 1)}
    moved_up = {**dict(list(others.items())[:-1]), image.id: MAX_RANKED}
    waiting = a_waiting(image, delayed)

    found = [looked(waiting, queue_positions) for queue_positions in (others, moved_up, others)]

    # at last it was taken, before its event was heard
    assert found == [{image.id: MAX_POSITION}, {image.id: MAX_RANKED}, {}]


def a_deletion(image):
    data = Deleted(id=image.id)
    more = {"subject": image.id, "time": NOON, "owner": "local", "revision": 2, "attempt": 0}
    return ImageDeleted(id=f"{image.id}.2", source="test", data=data, **more)


async def test_the_queue_is_looked_at_for_as_long_as_somebody_waits():
    image = an_image()
    looks = 0

    async def waiting_ids(_now, *, limit):
        nonlocal looks
        looks += 1
        return [image.id]

    async def looks_in(turns):
        before = looks
        for _ in range(turns):
            await asyncio.sleep(0)
        return looks - before

    live = a_live()
    queue_positions = QueuePositions(SimpleNamespace(waiting=waiting_ids), live, ManualClock(), interval_s=0)
    running = asyncio.create_task(queue_positions.run())
    with queue_positions.subscribed("local", print):
        nobody_waits = await looks_in(20)
        queue_positions.expect("local", [image])
        one_waits = await looks_in(20)
        live._show(ClientEvent("cursor", a_deletion(image), plain))
        await looks_in(3)
        it_was_taken = await looks_in(20)
        queue_positions.expect("local", [image])
    await looks_in(3)
    it_has_gone = await looks_in(20)
    running.cancel()

    assert (nobody_waits, it_was_taken, it_has_gone) == (0, 0, 0)
    assert one_waits > 5
