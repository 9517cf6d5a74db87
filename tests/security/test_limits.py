"""The limits of an owner, exact over two api processes on a real RabbitMQ."""

import asyncio
import re
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
import pytest_asyncio

from tests.cluster import ORDER, Cluster, embedded, running
from tests.inference_double import inference_double, paint, status
from tests.security import callers
from tests.servers.process import free_ports

pytestmark = pytest.mark.asyncio(loop_scope="module")
ORDERS, ASYNC = "/v1/images/generations", {"Prefer": "respond-async"}


class LimitedOwner:
    """An owner who sends requests to any of the api processes."""

    def __init__(self, http: aiohttp.ClientSession, urls: list[str], name: str) -> None:
        self._http, self._urls = http, urls
        self._identity = {"Authorization": f"Bearer {callers.token(name)}"}

    async def order(self, number: int = 0, **headers: str) -> tuple[int, dict, dict]:
        url = self._urls[number % len(self._urls)] + ORDERS
        async with self._http.post(url, json=ORDER, headers={**ASYNC, **self._identity, **headers}) as response:
            return response.status, dict(response.headers), await response.json()

    async def ask(self, method: str, path: str) -> tuple[int, dict]:
        async with self._http.request(method, self._urls[0] + path, headers=self._identity) as response:
            return response.status, await response.json() if response.status != 204 else {}


@asynccontextmanager
async def two_apis(folder, bus_url, **settings):
    """Two api processes without a generator: every request stays in flight."""
    cluster = Cluster(folder, BUS_URL=bus_url, **callers.settings_of(), **settings)
    cluster.add("api")
    port = free_ports(1)[0]
    cluster.add("api", alias="api-2", API_PORT=str(port))
    async with running(cluster), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        urls = [cluster.url, f"http://127.0.0.1:{port}"]
        yield lambda name: LimitedOwner(http, urls, name)


@pytest.mark.fault(row=62)
@pytest.mark.long
async def test_of_200_concurrent_posts_exactly_2_are_in_flight(tmp_path, vhost):
    limits = {"CONCURRENT_REQUESTS": "2", "WAITING_REQUESTS": "none", "REQUESTS_PER_HOUR": "50"}
    async with two_apis(tmp_path, vhost, **limits) as owner:
        ada, bob = owner("ada"), owner("bob")

        answers = await asyncio.gather(*(ada.order(number) for number in range(200)))
        others = await asyncio.gather(*(bob.order(number) for number in range(10)))

        assert Counter(status for status, _, _ in answers) == {202: 2, 429: 198}
        assert {body["code"] for status, _, body in answers if status == 429} == {"concurrent_limit"}
        assert Counter(status for status, _, _ in others) == {202: 2, 429: 8}, "one owner's limit is not another's"
        _, left = await ada.ask("GET", "/api/limits/")
        assert (left["concurrent"], left["waiting"], left["hourly"]["remaining"]) == (
            {"limit": 2, "remaining": 0, "resetsIn": 0.0},
            None,
            48,
        ), "a refused request does not count"


@pytest.mark.fault(row=62)
async def test_beyond_2_in_flight_exactly_20_wait(tmp_path, vhost):
    """The defaults: 100 requests at once over two processes, that may wait; then one that waits for its picture."""
    async with two_apis(tmp_path, vhost, CONCURRENT_REQUESTS="2", REQUESTS_PER_HOUR="50") as owner:
        ada = owner("ada")

        answers = await asyncio.gather(*(ada.order(number) for number in range(100)))
        one_more = [await ada.order(number) for number in range(2)]
        first = await owner("bob").order()
        waiting_post = await ada.order(Prefer="wait=20")

        assert Counter(status for status, _, _ in answers) == {202: 22, 429: 78}
        assert {body["code"] for status, _, body in [*answers, *one_more] if status == 429} == {"waiting_limit"}
        assert sorted(body["waitingSince"] is None for status, _, body in answers if status == 202).count(True) == 2
        assert {headers["Retry-After"] for _, headers, _ in one_more} == {"5"}
        assert (waiting_post[0], waiting_post[2]["code"]) == (429, "concurrent_limit")
        assert (first[0], first[2]["waitingSince"]) == (202, None), "one owner's line is not another's"
        _, left = await ada.ask("GET", "/api/limits/")
        assert [left[name]["remaining"] for name in ("concurrent", "waiting", "hourly")] == [0, 0, 28]


@pytest.mark.fault(row=62)
@pytest.mark.long
async def test_of_120_requests_exactly_50_are_accepted(tmp_path, vhost):
    async with two_apis(tmp_path, vhost, CONCURRENT_REQUESTS="0", REQUESTS_PER_HOUR="50") as owner:
        ada, bob = owner("ada"), owner("bob")

        answers = [await ada.order(number) for number in range(120)]
        at_once = await asyncio.gather(*(bob.order(number) for number in range(120)))

        assert [status for status, _, _ in answers] == [202] * 50 + [429] * 70
        assert Counter(status for status, _, _ in at_once) == {202: 50, 429: 70}
        _, headers, body = answers[-1]
        assert body["code"] == "hourly_limit"
        assert 3500 < int(headers["Retry-After"]) <= 3600
        assert headers["RateLimit"] == f'"hour";r=0;t={headers["Retry-After"]}'
        assert headers["RateLimit-Policy"] == '"hour";q=50;w=3600'
        assert [re.match(r'"hour";r=(\d+);', answers[number][1]["RateLimit"])[1] for number in (0, 49)] == ["49", "0"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inference():
    async with inference_double() as double:
        yield double


def one_server(**settings):
    """A fixture: one server with these limits, shared by tests with different owners."""

    @pytest_asyncio.fixture(scope="module", loop_scope="module")
    async def made(tmp_path_factory, inference):
        async with (
            embedded(
                tmp_path_factory.mktemp("limits"),
                INFERENCE_SERVICE_URL=inference.url,
                **callers.settings_of(),
                **settings,
            ) as cluster,
            aiohttp.ClientSession() as http,
        ):
            yield lambda name: LimitedOwner(http, [cluster.url], name)

    return made


four_an_hour = one_server(REQUESTS_PER_HOUR="4", CONCURRENT_REQUESTS="0", GENERATOR_CONCURRENCY="16")
one_at_once = one_server(
    REQUESTS_PER_HOUR="5", CONCURRENT_REQUESTS="1", WAITING_REQUESTS="none", GENERATOR_CONCURRENCY="16"
)


@pytest.mark.fault(row=63)
async def test_no_way_around_the_hourly_limit(four_an_hour, inference):
    inference.always(inference.hold)
    ada = four_an_hour("ada")
    images = [(await ada.order(**{"Idempotency-Key": f"key-{number}"}))[2] for number in range(4)]

    assert (await ada.ask("POST", f"/api/images/{images[0]['id']}/cancel/"))[0] == 200
    assert (await ada.ask("DELETE", f"/api/images/{images[1]['id']}/"))[0] == 204
    assert (await ada.order(**{"Idempotency-Key": "key-1"}))[0] == 410
    again = await ada.order(**{"Idempotency-Key": "key-2"})
    assert (again[0], again[2]["id"]) == (202, images[2]["id"]), "a repeat is the same order, and is no new one"
    assert (await ada.order())[2]["code"] == "hourly_limit"
    assert (await ada.order(Authorization=f"bearer  {callers.token('ada')} "))[2]["code"] == "hourly_limit"
    assert (await four_an_hour("ADA").order())[0] == 202, "another name is another owner, with images of its own"
    inference.released.set()


async def test_only_our_own_failure_leaves_the_hourly_window(four_an_hour, inference):
    cleo = four_an_hour("cleo")
    answers = []
    for answer in (status(422), status(422), status(422), status(500)):
        inference.always(answer)
        answers.append(await cleo.order(Prefer="wait=20"))
    inference.always(paint)
    left = (await cleo.ask("GET", "/api/limits/"))[1]["hourly"]["remaining"]
    fifth, sixth = await cleo.order(), await cleo.order()

    assert [answer[0] for answer in answers] == [422, 422, 422, 502]
    assert left == 1
    assert (fifth[0], sixth[0]) == (202, 429)


async def test_a_slot_is_free_when_its_image_is_final(one_at_once, inference):
    inference.released.clear()
    inference.always(inference.hold)
    ada = one_at_once("ada")
    first = (await ada.order())[2]
    _, headers, body = await ada.order()

    assert (body["code"], headers["Retry-After"]) == ("concurrent_limit", "5")
    assert headers["RateLimit"] == '"concurrent";r=0;t=5'
    assert headers["RateLimit-Policy"] == '"hour";q=5;w=3600, "concurrent";q=1;qu="concurrent-requests"'
    await ada.ask("POST", f"/api/images/{first['id']}/cancel/")
    assert (await ada.order())[0] == 202
    inference.released.set()


@pytest.mark.fault(row=48)
async def test_two_posts_with_one_key_count_once(one_at_once, inference):
    inference.released.clear()
    inference.always(inference.hold)
    bob, key = one_at_once("bob"), {"Idempotency-Key": "the-same-click"}

    answers = await asyncio.gather(*(bob.order(**key) for _ in range(20)))

    assert {(status, body["id"]) for status, _, body in answers} == {(202, answers[0][2]["id"])}
    assert (await bob.ask("GET", "/api/limits/"))[1]["hourly"]["remaining"] == 4
    inference.released.set()


async def test_owners_do_not_share_idempotency_keys(four_an_hour):
    """`a` with the key `b:c`, and `a:b` with the key `c`: joined carelessly, the two are one."""
    orders = [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a%3Ab:c", "c")]

    ids = [(await four_an_hour(name).order(**{"Idempotency-Key": key}))[2]["id"] for name, key in orders]
    again = [(await four_an_hour(name).order(**{"Idempotency-Key": key}))[2]["id"] for name, key in orders]

    assert len(set(ids)) == len(orders)
    assert again == ids
