"""Repeats of the SDK join the order that is not answered, no other."""

import asyncio
from contextlib import suppress

import aiohttp
import pytest

from common.domain.errors import Unavailable
from common.runtime.clock import SystemClock
from common.store.sqlite import SqliteStore
from services.api.limits.admission import Admission
from services.api.openai import orders
from services.api.openai.repeats import Repeats
from services.api.openai.schema import ImageRequest
from tests.openai.conftest import WITH_IDENTITY
from tests.openai.test_sdk import PROMPT, SIZE
from tests.security import callers
from tests.waiting import until

BODY = {"prompt": PROMPT, "size": SIZE, "response_format": "url"}


def post(http, *, number=0, owner="ada", **fields):
    headers = {"Authorization": f"Bearer {callers.token(owner)}", "x-stainless-retry-count": str(number)}
    return asyncio.create_task(_post(http, headers, {**BODY, **fields}))


async def _post(http, headers, body):
    async with http.post("/openai/v1/images/generations", json=body, headers=headers) as response:
        answer = await response.json()
        return [each["url"].partition("?")[0] for each in answer["data"]] if response.status == 200 else response.status


@pytest.fixture
async def held(serve):
    """A server with identity whose inference service waits; with a client."""
    async with (
        serve(**WITH_IDENTITY, GENERATOR_CONCURRENCY="8") as darkroom,
        aiohttp.ClientSession(darkroom.url) as http,
    ):
        darkroom.inference.always(darkroom.inference.hold)
        yield darkroom, http


async def orders_are(darkroom, number):
    await until(lambda: len(darkroom.inference.orders) >= number)


@pytest.mark.parametrize(("n", "retries"), [(1, 2), (3, 1)])
@pytest.mark.long
async def test_a_repeat_after_a_timeout_gets_the_images_of_the_first(serve, monkeypatch, n, retries):
    """The SDK gives up once or twice; its last request gets the images that its first one ordered."""
    calls = []
    order = orders.order

    async def counted(*arguments, **more):
        calls.append(more["order_id"])
        images = await order(*arguments, **more)
        if len(calls) == retries + 1:
            darkroom.inference.released.set()
        return images

    monkeypatch.setattr(orders, "order", counted)
    async with serve(**WITH_IDENTITY, GENERATOR_CONCURRENCY="8") as darkroom:
        darkroom.inference.always(darkroom.inference.hold)
        client = darkroom.client(token=callers.token(), retries=retries, timeout=1.5)
        found = await client.images.generate(prompt=PROMPT, size=SIZE, n=n)

        assert len(found.data) == n
        assert len(darkroom.inference.orders) == n
        assert len(await darkroom.history(callers.token())) == n
    assert len(calls) == retries + 1
    assert len(set(calls)) == 1


async def test_a_repeat_joins_the_unanswered_order_only(held):
    """Not the order of another body, of another owner, of a request that is no repeat, or one that was answered."""
    darkroom, http = held
    first = post(http)
    await orders_are(darkroom, 1)
    other = [post(http), post(http, number=1, owner="bob"), post(http, number=1, prompt="another")]
    await orders_are(darkroom, 4)
    repeat = post(http, number=1)
    darkroom.inference.released.set()

    urls = [(await each)[0] for each in (first, *other, repeat)]
    assert len(set(urls)) == 4
    assert urls[-1] in urls[:2], "either of the two orders of this body and owner is unanswered"
    (later,) = await post(http, number=2)
    assert later not in urls


async def test_an_answer_that_is_cut_before_its_end_is_joined(tmp_path):
    """The end of the answer could not be sent; the answer of the repeat can, and a later request is a new order."""
    body = ImageRequest.model_validate(BODY)
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        repeats = Repeats(store, SystemClock(), is_on=True, kept_s=60)
        with suppress(ConnectionError):
            async with repeats.order("ada", body, number=0) as first:
                await first.answered()
                raise ConnectionError
        async with repeats.order("ada", body, number=1) as repeat:
            await repeat.answered()
            async with repeats.order("ada", body, number=2) as later:
                pass

    assert repeat.id == first.id != later.id


async def test_two_repeats_do_not_share_an_order(held):
    darkroom, http = held
    first = [post(http), post(http)]
    await orders_are(darkroom, 2)
    repeats = [post(http, number=1) for _ in range(3)]
    await orders_are(darkroom, 3)
    darkroom.inference.released.set()

    joined = {(await each)[0] for each in first}
    found = [(await each)[0] for each in repeats]
    assert len(set(found)) == 3
    assert joined < set(found)


async def test_a_repeat_records_what_the_first_request_could_not(held, monkeypatch):
    darkroom, http = held
    failures: list[str] = []
    record = Admission.record

    async def failing(self, image):
        if not failures:
            failures.append(image.id)
            raise Unavailable("store")
        return await record(self, image)

    monkeypatch.setattr(Admission, "record", failing)
    assert await post(http) == 503
    repeat = post(http, number=1)
    await orders_are(darkroom, 1)
    darkroom.inference.released.set()

    (url,) = await repeat
    assert failures[0] in url


async def test_without_identity_nothing_is_joined(darkroom):
    darkroom.inference.always(darkroom.inference.hold)
    async with aiohttp.ClientSession(darkroom.url) as http:
        first = post(http)
        await orders_are(darkroom, 1)
        repeat = post(http, number=1)
        await orders_are(darkroom, 2)
        darkroom.inference.released.set()

        assert await first != await repeat


async def test_the_sdk_repeats_by_itself_after_a_429(serve, monkeypatch):
    """An owner may have one waiting request. The second is refused until the first is answered."""
    monkeypatch.setattr("services.api.events.waits.RETRY_AFTER_S", 1.0)
    async with serve(REQUESTS_WAITING="1") as darkroom, aiohttp.ClientSession(darkroom.url) as http:
        darkroom.inference.will(darkroom.inference.hold)
        first = post(http)
        await orders_are(darkroom, 1)
        second = asyncio.create_task(darkroom.client(retries=2).images.generate(prompt="another", size=SIZE))

        async def is_refused():
            async with http.get("/metrics") as response:
                lines = (await response.text()).splitlines()
            return any("openai" in line and 'status="429"' in line and "_count{" in line for line in lines)

        await until(is_refused)
        darkroom.inference.released.set()

        assert (await second).data
        assert await first


async def test_the_sdk_repeats_by_itself_after_a_503(darkroom, monkeypatch):
    failures: list[str] = []
    record = Admission.record

    async def failing(self, image):
        if not failures:
            failures.append(image.id)
            raise Unavailable("store")
        return await record(self, image)

    monkeypatch.setattr(Admission, "record", failing)

    found = await darkroom.client(retries=1).images.generate(prompt=PROMPT, size=SIZE)

    assert len(found.data) == len(failures) == len(darkroom.inference.orders) == 1
