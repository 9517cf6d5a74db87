"""Queue positions in REST answers and in frames of a websocket."""

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
from common.runtime.reading_settings import read_settings
from common.store.port import change
from common.store.sqlite import SqliteStore
from services.api.events.live import ClientEvent, LiveEvents, plain
from services.api.events.queue_positions import (
    MAX_POSITION,
    MAX_RANKED,
    OwnerPositions,
    QueuePositions,
    queue_position,
)
from services.api.events.recent_times import RecentTimes
from services.api.service import api_running
from tests.cluster import ORDER
from tests.making import NOON, an_image, an_outbox
from tests.security import callers

CLOCK = SystemClock()
HOUR = timedelta(hours=1)
LIMIT_S = 5


class CountingStore(SqliteStore):
    """Counts the queries for the positions that websockets receive."""

    queries = 0

    async def queued_ids(self, now, **more):
        self.queries += 1
        return await super().queued_ids(now, **more)


class ApiWithoutGenerator:
    """An api without a generator: an image stays queued until a test claims it."""

    def __init__(self, http, url, bus, store):
        self.http = http
        self.url = url
        self.store = store
        self.outbox = an_outbox(bus, store, CLOCK, slots=2)
        self.now = CLOCK.now
        self.lease = Lease(token="t", worker="w", until=CLOCK.now() + HOUR)

    async def request(self, owner):
        headers = {**bearer(owner), "Prefer": "respond-async"}
        async with self.http.post(f"{self.url}/v1/images/generations", json=ORDER, headers=headers) as response:
            assert response.status == 202
            return await response.json()

    async def image(self, owner, image_id):
        async with self.http.get(f"{self.url}/api/images/{image_id}/", headers=bearer(owner)) as response:
            return await response.json()

    async def claim(self, image_id):
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


async def received(socket, queue_positions):
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
def limits():
    return {"CONCURRENT_REQUESTS": "0"}


@pytest.fixture
async def api(tmp_path, interval, limits):
    named = {"API_PORT": "0", "PLACES_INTERVAL": str(interval), **limits}
    settings = read_settings({**callers.settings_of(), **named})
    async with AsyncExitStack() as opened:
        bus = await opened.enter_async_context(MemoryBus())
        store = await opened.enter_async_context(CountingStore.open(tmp_path / "darkroom.db", timeout_s=LIMIT_S))
        media = await opened.enter_async_context(open_media(str(tmp_path / "media")))
        port = await opened.enter_async_context(api_running(settings, Resources(bus, store, media, CLOCK)))
        http = await opened.enter_async_context(aiohttp.ClientSession())
        yield ApiWithoutGenerator(http, f"http://127.0.0.1:{port}", bus, store)


# ---------------------------------------------------------------- REST


async def test_an_answer_holds_the_position_among_all_owners(api):
    answers = [await api.request(owner) for owner in ("ada", "bob", "ada")]
    first, second, third = (answer["id"] for answer in answers)

    assert [answer["queuePlace"] for answer in answers] == [1, 2, 3]
    await api.claim(first)
    found = [
        await api.image("ada", first),
        await api.image("bob", second),
        await api.image("ada", third),
    ]

    assert [(image["status"], image["queuePlace"]) for image in found] == [
        ("running", None),
        ("queued", 1),
        ("queued", 2),
    ]


async def test_an_image_that_waits_for_a_retry_has_no_position(api):
    first, second = [await api.request("ada") for _ in range(2)]
    await api.retry(await api.claim(first["id"]), not_before=CLOCK.now() + HOUR)

    assert [(await api.image("ada", each["id"]))["queuePlace"] for each in (first, second)] == [None, 1]


async def test_the_position_is_none_while_the_store_is_unavailable(api, tmp_path):
    async with CountingStore.open(tmp_path / "closed.db", timeout_s=LIMIT_S) as closed:
        assert await queue_position(an_image(), store=closed, clock=CLOCK) == 1

    assert await queue_position(an_image(), store=closed, clock=CLOCK) is None


# ---------------------------------------------------------------- websocket


async def test_an_owner_receives_positions_of_own_images_only(api):
    async with api.socket("ada") as ada, api.socket("bob") as bob:
        first, second = [(await api.request("ada"))["id"] for _ in range(2)]
        bobs = (await api.request("bob"))["id"]
        frames = await received(ada, {first: 1, second: 2})
        bobs_frames = await received(bob, {bobs: 3})

        await api.claim(first)
        frames += await received(ada, {second: 1})
        bobs_frames += await received(bob, {bobs: 2})
        await api.claim(second)
        frames += await received(ada, {})
        bobs_frames += await received(bob, {bobs: 1})

    assert bobs not in json.dumps(frames)
    assert first not in json.dumps(bobs_frames)
    assert second not in json.dumps(bobs_frames)
    assert all("cursor" not in frame for frame in frames if frame["type"] == "places")


@pytest.mark.parametrize("interval", [3600])
async def test_the_store_is_not_queried_without_queued_images(api):
    async with api.socket("ada") as ada:
        await api.claim((await api.request("bob"))["id"])
        await api.request("bob")
        mine = (await api.request("ada"))["id"]

        # the first look in an hour
        assert [frame["type"] for frame in await received(ada, {mine: 2})] == ["image.queued", "places"]

    assert api.store.queries == 1


async def test_a_new_websocket_receives_the_current_positions(api):
    await api.request("bob")
    mine = (await api.request("ada"))["id"]

    async with api.socket("ada") as one, api.socket("ada") as another:
        for socket in (one, another):
            assert await received(socket, {mine: 2}) == [{"type": "places", "places": {mine: 2}}]


# ---------------------------------------------------------------- updates of one owner


def a_live():
    return LiveEvents(MemoryBus(), CLOCK, backlog=10, lookback_s=1)


def owner_positions(*images):
    positions = OwnerPositions(lambda: None)
    positions.add_queued(images)
    return positions


def updated(positions, ranked, now=NOON):
    """The positions that one update sends to a websocket which received the previous update, or None."""
    frames: list[str] = []
    positions.sent = {frames.append: next(iter(positions.sent.values()), ({}, frozenset()))}
    positions.update(ranked, now)
    return json.loads(frames[0])["places"] if frames else None


def test_unchanged_positions_are_not_sent_again():
    image = an_image()
    positions = owner_positions(image)

    found = [updated(positions, {image.id: position}) for position in (3, 3, 2)]

    assert found == [{image.id: 3}, None, {image.id: 2}]


def test_all_images_beyond_the_ranked_have_one_position():
    image, delayed = an_image(), an_image(not_before=NOON + HOUR)
    others = {f"other {number}": number for number in range(1, MAX_RANKED + 1)}
    moved_up = {**dict(list(others.items())[:-1]), image.id: MAX_RANKED}
    positions = owner_positions(image, delayed)

    found = [updated(positions, ranked) for ranked in (others, moved_up, others)]

    # in the end it was claimed, and its event has not arrived yet
    assert found == [{image.id: MAX_POSITION}, {image.id: MAX_RANKED}, {}]


def a_deletion(image):
    data = Deleted(id=image.id)
    more = {"subject": image.id, "time": NOON, "owner": "local", "revision": 2, "attempt": 0}
    return ImageDeleted(id=f"{image.id}.2", source="test", data=data, **more)


async def test_the_store_is_queried_only_while_an_image_is_queued():
    """A websocket is open, an image is queued and ends, another is queued, and the websocket is closed."""
    image = an_image()
    queries = 0

    async def queued_pools():
        return ["default"]

    async def queued_ids(_now, **_more):
        nonlocal queries
        queries += 1
        return [image.id]

    async def queries_in(turns):
        before = queries
        for _ in range(turns):
            await asyncio.sleep(0)
        return queries - before

    live = a_live()
    clock, store = ManualClock(), SimpleNamespace(queued_ids=queued_ids, queued_pools=queued_pools)
    queue_positions = QueuePositions(store, live, RecentTimes(clock), clock, interval_s=0)
    running = asyncio.create_task(queue_positions.run())
    with queue_positions.subscribed("local", print):
        none_queued = await queries_in(20)
        queue_positions.add_queued("local", [image])
        one_queued = await queries_in(20)
        live._deliver(ClientEvent("cursor", a_deletion(image), plain))
        await queries_in(3)
        after_its_end = await queries_in(20)
        queue_positions.add_queued("local", [image])
    await queries_in(3)
    after_the_websocket = await queries_in(20)
    running.cancel()

    assert (none_queued, after_its_end, after_the_websocket) == (0, 0, 0)
    assert one_queued > 5
