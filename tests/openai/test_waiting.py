"""What a client sees while its order waits: comments of a stream, the end of the wait, its own end."""

import asyncio
import json
from functools import partial

import aiohttp
import openai
import pytest

from common.domain import transitions
from common.store.port import change
from common.store.sqlite import SqliteStore
from tests.borders.http.conftest import CLOCK
from tests.openai.conftest import WITH_IDENTITY
from tests.openai.test_sdk import PROMPT, SIZE
from tests.security import callers
from tests.waiting import until

BODY = {"prompt": PROMPT, "size": SIZE}


async def test_comments_keep_a_stream_alive(darkroom, monkeypatch):
    monkeypatch.setattr("services.api.openai.stream.COMMENT_S", 0.05)
    darkroom.inference.always(darkroom.inference.hold)
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{darkroom.base_url}/images/generations", json={**BODY, "stream": True}) as response:
            comments = [await response.content.readuntil(b"\n\n") for _ in range(4)]
            darkroom.inference.released.set()
            rest = await response.read()

        assert (response.content_type, response.headers["X-Accel-Buffering"]) == ("text/event-stream", "no")
    assert set(comments) == {b": waiting\n\n"}
    events = [each for each in rest.decode().split("\n\n") if each and not each.startswith(":")]
    assert events[0].startswith("event: image_generation.completed\ndata: {")
    assert events[1:] == ["data: [DONE]"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_order_that_outlives_the_wait_can_be_joined(serve, stream):
    """The deadline of the wait passes; nothing ends the image, as the janitor looks later."""
    settings = {**WITH_IDENTITY, "GENERATION_DEADLINE": "0.3", "RECONCILE_INTERVAL": "3600"}
    async with serve(**settings) as darkroom, aiohttp.ClientSession() as http:
        darkroom.inference.always(darkroom.inference.hold)
        url = f"{darkroom.base_url}/images/generations"
        headers = {"Authorization": f"Bearer {callers.token()}"}
        async with http.post(url, json={**BODY, "stream": stream}, headers=headers) as response:
            text = await response.text()
        if stream:
            assert '"unfinished"' in text
        else:
            assert (response.status, json.loads(text)["error"]["code"]) == (503, "unfinished")
            assert (response.headers["Retry-After"], response.headers["x-should-retry"]) == ("2", "true")

        darkroom.inference.released.set()

        async def is_completed():
            return [each["status"] for each in await darkroom.history(callers.token())] == ["completed"]

        await until(is_completed)
        headers["x-stainless-retry-count"] = "1"
        async with http.post(url, json={**BODY, "stream": stream}, headers=headers) as response:
            assert "b64_json" in await response.text()
        assert len(await darkroom.history(callers.token())) == 1


async def test_without_identity_the_sdk_orders_once(serve):
    """Its repeat could not be joined, and would paint the image again."""
    async with serve(GENERATION_DEADLINE="0.3", RECONCILE_INTERVAL="3600") as darkroom:
        darkroom.inference.always(darkroom.inference.hold)
        with pytest.raises(openai.InternalServerError, match="history") as raised:
            await darkroom.client(retries=2).images.generate(prompt=PROMPT, size=SIZE)
        darkroom.inference.released.set()

        assert (raised.value.code, len(await darkroom.history())) == ("unfinished", 1)


async def test_a_stop_tells_the_client_to_repeat(serve):
    async with serve(**WITH_IDENTITY, GRACE_PERIOD="1") as darkroom, aiohttp.ClientSession() as http:
        darkroom.inference.always(darkroom.inference.hold)
        headers = {"Authorization": f"Bearer {callers.token()}"}
        asking = asyncio.create_task(
            http.post(f"{darkroom.base_url}/images/generations", json=BODY, headers=headers).__aenter__()
        )
        await darkroom.inference.held.wait()
        darkroom.stop()
        response = await asking
        error = (await response.json())["error"]

    assert (response.status, error["code"], response.headers["x-should-retry"]) == (503, "unfinished", "true")


@pytest.mark.parametrize(
    ("transition", "error", "status"),
    [(transitions.cancel, openai.ConflictError, 409), (transitions.delete, openai.APIStatusError, 410)],
)
async def test_an_image_that_its_owner_ends_is_not_repeated(darkroom, tmp_path, transition, error, status):
    darkroom.inference.always(darkroom.inference.hold)
    asking = asyncio.create_task(darkroom.client(retries=2).images.generate(**BODY))
    await darkroom.inference.held.wait()
    (image,) = await darkroom.history()
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        await change(store, image["id"], partial(transition, now=CLOCK.now()))

    with pytest.raises(error) as raised:
        await asking

    assert raised.value.status_code == status
    assert len(darkroom.inference.orders) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_ends_with_its_client(darkroom, stream):
    darkroom.inference.always(darkroom.inference.hold)
    async with aiohttp.ClientSession() as http:
        timeout = aiohttp.ClientTimeout(total=0.5)
        with pytest.raises(TimeoutError):
            async with http.post(
                f"{darkroom.base_url}/images/generations", json={**BODY, "stream": stream}, timeout=timeout
            ) as response:
                await response.read()

        async def has_ended():
            async with http.get(f"{darkroom.url}/metrics") as response:
                lines = (await response.text()).splitlines()
            ended = [line for line in lines if "openai" in line and "_count{" in line]
            return any('status="499"' in line for line in ended)

        await until(has_ended)


async def test_the_waits_of_an_owner_are_bounded_together(serve):
    """A request to OpenAI's surface and one to our own count alike."""
    async with serve(REQUESTS_WAITING="1") as darkroom, aiohttp.ClientSession() as http:
        darkroom.inference.always(darkroom.inference.hold)
        waiting = asyncio.create_task(
            http.post(f"{darkroom.url}/v1/images/generations", json={"prompt": "a cat"}).__aenter__()
        )
        await darkroom.inference.held.wait()

        with pytest.raises(openai.RateLimitError) as raised:
            await darkroom.client().images.generate(**BODY)
        darkroom.inference.released.set()
        (await waiting).close()

    assert raised.value.response.headers["retry-after"] == "5"
