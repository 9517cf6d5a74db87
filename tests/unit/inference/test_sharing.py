"""One painting, many callers: repeats of a key, callers who leave, a full queue, the shutdown."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from common.runtime.clock import SystemClock
from services.inference.app import build_app
from services.inference.jobs import MAX_CACHED, PaintQueue
from tests.unit.inference.support import PATH, FakeEngine, events, happened, health, served


@pytest.mark.parametrize("accept", ["image/png", "text/event-stream"])
async def test_a_dropped_connection_stops_the_work(accept):
    engine = FakeEngine(gated=True)
    async with served(engine) as client:
        call = asyncio.create_task(client.post(PATH, json={"prompt": "a", "steps": 150}, headers={"Accept": accept}))
        await happened(engine.began)
        if accept == "image/png":
            call.cancel()
        else:
            (await call).close()

        while not engine.left.is_set():
            await health(client)  # a round trip, in which the server sees the connection go
            engine.go.release()

        assert len(engine.steps) < 20
        while (await health(client))["painting"]:
            pass


async def test_a_repeated_key_joins_the_running_then_the_finished_job():
    engine = FakeEngine(gated=True)
    order, key = {"prompt": "a", "steps": 1}, {"Idempotency-Key": "k"}
    async with served(engine) as client:
        first = asyncio.create_task(client.post(PATH, json=order, headers=key))
        await happened(engine.began)
        second = await client.post(PATH, json=order, headers={**key, "Accept": "text/event-stream"})
        engine.go.release()

        assert [name for name, _ in await events(second)] == ["progress", "completed"]
        for answer in (await first, await client.post(PATH, json=order, headers=key)):
            assert (answer.status, await answer.read()) == (200, b"picture")
        async with client.post(PATH, json={**order, "seed": 1}, headers=key) as answer:
            assert (answer.status, (await answer.json())["code"]) == (422, "idempotency_key_reused")
    assert len(engine.painted) == 1


async def test_a_client_that_leaves_does_not_stop_the_job_of_another():
    engine = FakeEngine(gated=True)
    order, key = {"prompt": "a", "steps": 1}, {"Idempotency-Key": "k"}
    async with served(engine) as client:
        first = asyncio.create_task(client.post(PATH, json=order, headers=key))
        await happened(engine.began)
        second = await client.post(PATH, json=order, headers={**key, "Accept": "text/event-stream"})
        first.cancel()
        await health(client)
        engine.go.release()

        assert [name for name, _ in await events(second)] == ["progress", "completed"]
    assert len(engine.painted) == 1


async def test_only_the_latest_finished_jobs_are_kept_for_their_keys():
    engine = FakeEngine()
    async with served(engine) as client:
        for key in [*range(MAX_CACHED + 1), MAX_CACHED, 0]:  # the last one is still kept, the first is not
            async with client.post(PATH, json={"prompt": "a"}, headers={"Idempotency-Key": str(key)}) as answer:
                assert answer.status == 200
    assert len(engine.painted) == MAX_CACHED + 2


async def test_a_failed_painting_is_not_kept_for_its_key():
    engine = FakeEngine(error=ValueError("once"))
    async with served(engine) as client:
        for status in (500, 200):
            async with client.post(PATH, json={"prompt": "a"}, headers={"Idempotency-Key": "k"}) as answer:
                assert answer.status == status
            engine.error = None


async def test_a_full_queue_is_told_when_to_ask_again():
    engine = FakeEngine(gated=True)
    async with served(engine, max_waiting=1) as client:
        calls = [asyncio.create_task(client.post(PATH, json={"prompt": "a", "steps": 1})) for _ in range(2)]
        while (await health(client))["waiting"] < 1:
            pass

        async with client.post(PATH, json={"prompt": "a"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
            assert (await answer.json())["code"] == "busy"

        engine.go.release(2)
        assert [(await call).status for call in calls] == [200, 200]


async def test_shutdown_finishes_running_jobs_and_refuses_others():
    engine = FakeEngine(gated=True)
    app = build_app(PaintQueue(engine, concurrency=1, clock=SystemClock()), api_key=None)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=20)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        calls = [asyncio.create_task(client.post(PATH, json={"prompt": "a", "steps": 1})) for _ in range(2)]
        while (await health(client))["waiting"] < 1:
            pass

        cleanup = asyncio.create_task(runner.cleanup())
        refused = next(done for done in (await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED))[0])
        assert refused.result().status == 503
        assert (await refused.result().json())["code"] == "shutting_down"
        engine.go.release()

        painted = next(call for call in calls if call is not refused)
        assert (await painted).status == 200
        await cleanup
