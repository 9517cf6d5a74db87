"""The fakes answer as the real programs were recorded to answer."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.engines.cog import Cog
from tests.engines.engine import EngineFake, EngineFault, running
from tests.engines.openai import FakeMaker, OpenAi
from tests.engines.recorded import TRANSCRIPTS, exchanges, label, send, shape, without
from tests.engines.sdapi import SdApi
from tests.engines.sdapi_programs import FakeProgram

# An answer of hundreds of fields, of which the fakes have those that an adapter reads.
PARTLY = {"GET /sdapi/v1/options", "GET /sdcpp/v1/capabilities"}
ECHOES = ("parameters", "info")  # of the request; with all of the program's own settings
# Routes that no adapter uses, or that need a second exchange beside them: those are in scenarios below.
UNUSED = ("/sdcpp/v1/img_gen", "/sdcpp/v1/jobs", "/sdapi/v1/status", "/sdapi/v1/history")


def is_busy(exchange: dict) -> bool:
    """Whether something else ran beside it."""
    answer = exchange.get("answer")
    if not isinstance(answer, dict):
        return False
    is_cancelled = exchange["request"].endswith("/cancel") and exchange["status"] == 200
    return is_cancelled or answer.get("status") == "BUSY" or bool(answer.get("step") or answer.get("progress"))


def parametrised(name, *, beside=(), only="/"):
    found = [
        each
        for each in exchanges(name)
        if not any(path in each["request"] for path in UNUSED)
        and only in each["request"]
        and "dropped" not in each
        and not is_busy(each)
        and each.get("note") not in beside
    ]
    return pytest.mark.parametrize("exchange", found, ids=label)


async def check(engine: EngineFake, exchange: dict) -> None:
    async with running(engine), aiohttp.ClientSession() as http:
        compare(exchange, await send(http, engine.url, exchange))


def compare(exchange: dict, answered: tuple[int, Any, str]) -> None:
    status, answer, content_type = answered
    recorded = exchange["answer"]

    assert status == exchange["status"]
    if isinstance(recorded, str):
        assert answer == recorded
        return
    assert content_type == exchange["headers"]["content-type"].partition(";")[0]
    if exchange["request"] in PARTLY:
        assert shape(answer).items() <= trimmed(shape(recorded), shape(answer)).items()
    elif status >= 400:
        assert answer == recorded
    else:
        assert shape(without(answer, *ECHOES)) == shape(without(recorded, *ECHOES))
        assert isinstance(recorded, list) or set(answer) == set(recorded)


def trimmed(recorded, made):
    """What was recorded, without the fields that the fake leaves out."""
    if not isinstance(recorded, dict) or not isinstance(made, dict):
        return recorded
    return {key: trimmed(inner, made[key]) for key, inner in recorded.items() if key in made}


@parametrised(
    "sdnext-2026-07/http.json",
    beside={"long one, watched", "no credentials", "size not a multiple of 8"},
)
async def test_sdnext(exchange):
    await check(SdApi(FakeProgram.SDNEXT), exchange)


async def test_sdnext_with_a_size_off_its_grid():
    exchange = next(each for each in exchanges("sdnext-2026-07/http.json") if "multiple of 8" in each.get("note", ""))

    await check(SdApi(FakeProgram.SDNEXT), exchange)


@parametrised("sdnext-2026-07/auth.json")
async def test_sdnext_with_credentials(exchange):
    engine = SdApi(FakeProgram.SDNEXT)
    engine.credentials = "me:secret"
    engine.models = []

    await check(engine, exchange)


async def test_sdnext_without_a_loaded_model():
    """An order that names its model gets no picture until a model was loaded."""
    engine = SdApi(FakeProgram.SDNEXT)
    engine.loaded = ""
    async with running(engine), aiohttp.ClientSession() as http:
        for exchange in exchanges("sdnext-2026-07/unloaded.json"):
            answered = await send(http, engine.url, exchange)
            compare(exchange, answered)
            assert answered[1].get("ok") == exchange["answer"].get("ok")
            assert bool(answered[1].get("info")) == bool(exchange["answer"].get("info"))


async def test_sdnext_watched_and_interrupted():
    """One long order is watched, a second waits beside it, an interrupt stops the first only."""
    found = exchanges("sdnext-2026-07/http.json")
    start = next(index for index, each in enumerate(found) if each.get("note") == "long one, watched")
    long, busy, second, without_image, internal = found[start : start + 5]
    interrupt, idle, idle_interrupt = (each for each in found[start + 6 : start + 9])
    engine = SdApi(FakeProgram.SDNEXT)
    engine.hold(2)

    async with running(engine), aiohttp.ClientSession() as http:
        watched = asyncio.create_task(send(http, engine.url, long))
        await engine.held.wait()
        waiting = asyncio.create_task(send(http, engine.url, second))
        for exchange in (busy, without_image, internal, interrupt):
            compare(exchange, await send(http, engine.url, exchange))
        engine.release()
        compare(long, await watched)
        compare(second, await waiting)
        for exchange in (idle, idle_interrupt):
            compare(exchange, await send(http, engine.url, exchange))

    assert engine.interrupts == [long["b"], None]
    assert engine.painted == [second["b"]]


async def test_sdnext_goes_on_without_its_client():
    engine = SdApi(FakeProgram.SDNEXT)
    exchange = next(each for each in exchanges("sdnext-2026-07/http.json") if "goes away" in each.get("note", ""))
    engine.hold()

    async with running(engine), aiohttp.ClientSession() as http:
        leaving = asyncio.create_task(send(http, engine.url, exchange))
        await engine.held.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        _, progress, _ = await send(http, engine.url, {"request": "GET /sdapi/v1/progress?skip_current_image=true"})

        assert progress["state"]["job_count"] == 1
        assert engine.running


@parametrised("sd-server-0.4.7/http.json", only="/sdapi", beside={"sdapi no prompt"})
async def test_sdserver(exchange):
    await check(SdApi(FakeProgram.SDSERVER), exchange)


async def test_sdserver_without_a_prompt():
    exchange = next(each for each in exchanges("sd-server-0.4.7/http.json") if each.get("note") == "sdapi no prompt")

    await check(SdApi(FakeProgram.SDSERVER), exchange)


@parametrised("sd-server-0.4.7/http.json", only="capabilities")
async def test_sdserver_capabilities(exchange):
    await check(SdApi(FakeProgram.SDSERVER), exchange)
    await check(OpenAi(FakeMaker.SDSERVER), exchange)


@parametrised("sd-server-0.4.7/http.json", only=" /v1", beside={"not json"})
async def test_sdserver_with_openai_routes(exchange):
    await check(OpenAi(FakeMaker.SDSERVER), exchange)


async def test_sdserver_openai_route_without_json():
    exchange = next(each for each in exchanges("sd-server-0.4.7/http.json") if each.get("note") == "not json")
    engine = OpenAi(FakeMaker.SDSERVER)

    async with running(engine), aiohttp.ClientSession() as http:
        status, answer, _ = await send(http, engine.url, exchange)

    assert (status, shape(answer)) == (exchange["status"], shape(exchange["answer"]))


# ------------------------------------------------------------- cog


def cog() -> Cog:
    """The model of the recording does not stream."""
    return Cog(streaming=False)


BESIDE = {
    "async PUT with webhook",
    "the same PUT while it runs (async)",
    "the same PUT while it runs (sync)",
    "another while busy",
    "sync, cancelled beside",
    "async, cancelled, webhook completed only",
    "raises",
}


@parametrised("cog-0.23.1/http.json", beside=BESIDE)
async def test_cog(exchange):
    if exchange.get("b", {}).get("input", {}).get("num_outputs") == 2:
        exchange["answer"]["output"] = exchange["answer"]["output"][:1]
    await check(cog(), exchange)


def noted(name: str, note: str) -> dict:
    return next(each for each in exchanges(name) if each.get("note") == note)


async def test_cog_that_fails():
    engine = cog()
    engine.will(EngineFault.ERROR_INSIDE)
    exchange = noted("cog-0.23.1/http.json", "raises")
    async with running(engine), aiohttp.ClientSession() as http:
        status, answer, _ = await send(http, engine.url, exchange)

    assert status == 200
    assert shape(answer) == shape(exchange["answer"])


async def test_cog_while_a_prediction_runs():
    """A snapshot for the same id, a 409 for another, BUSY as health, and a cancel beside."""
    name = "cog-0.23.1/http.json"
    running_one = noted(name, "sync, cancelled beside")
    snapshot = {**noted(name, "the same PUT while it runs (sync)"), "request": running_one["request"]}
    found = exchanges(name)
    busy_health = next(each for each in found if each.get("answer", {}) and '"BUSY"' in json.dumps(each["answer"]))
    cancel = next(each for each in found if each["request"].endswith("img-0004/cancel"))
    engine = cog()
    engine.hold(2)

    async with running(engine), aiohttp.ClientSession() as http:
        first = asyncio.create_task(send(http, engine.url, running_one))
        await engine.held.wait()
        for exchange in (noted(name, "another while busy"), busy_health):
            compare(exchange, await send(http, engine.url, exchange))
        status, answer, _ = await send(http, engine.url, snapshot)
        assert status == snapshot["status"]
        assert set(answer) == set(snapshot["answer"])
        compare(cancel, await send(http, engine.url, cancel))
        compare(running_one, await first)


async def test_cog_frees_the_slot_of_a_client_that_leaves():
    engine = cog()
    exchange = noted("cog-0.23.1/http.json", "sync, client goes away after 1 s")
    engine.hold()

    async with running(engine), aiohttp.ClientSession() as http:
        leaving = asyncio.create_task(send(http, engine.url, exchange))
        await engine.held.wait()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await engine.idle.wait()
        status, health, _ = await send(http, engine.url, {"request": "GET /health-check"})

    assert (status, health["status"]) == (200, "READY")


async def test_cog_streams_as_recorded():
    """The names and fields of the events; the recording has one output per chunk."""
    recorded = (TRANSCRIPTS / "cog-0.23.1/sse.txt").read_text()
    engine = Cog(streaming=True)
    async with running(engine), aiohttp.ClientSession() as http:
        headers = {"Accept": "text/event-stream"}
        body = {"input": {"prompt": "x", "num_inference_steps": 2}}
        async with http.put(f"{engine.url}/predictions/x1", json=body, headers=headers) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            made = await response.text()

    names = {line for line in recorded.splitlines() if line.startswith("event:")}
    assert {line for line in made.splitlines() if line.startswith("event:")} == names - {"event: output"}
    keys = {'"id"', '"logs"', '"metrics"', '"output"'}
    assert all(key in made and key in recorded for key in keys)
