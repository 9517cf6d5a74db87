"""Models appear, stay known and change as generators come and go; the api knows no inference service."""

import asyncio
import signal
from contextlib import asynccontextmanager

import pytest

from tests.cluster import Events, FrontEnd
from tests.inference_double import inference_double

NO_GENERATOR = "no generator with this model is running"
FAST = {"ANNOUNCE_INTERVAL": "0.5", "INFERENCE_TIMEOUT": "60"}


@asynccontextmanager
async def painter_of(*models: str):
    async with inference_double() as double:
        double.capabilities = {"models": [{"id": model, "samplers": [f"of {model}"]} for model in models]}
        yield double


async def add_generator(cluster, alias, url):
    service = await cluster.add_service("generator", alias=alias, **FAST)
    service.env["INFERENCE_SERVICE_URL"] = url
    await cluster.start(alias)


async def until_models(page, wanted: dict[str, bool]) -> dict:
    """Wait until these models are listed, each live or not; returns the whole answer."""
    async with asyncio.timeout(20):
        while True:
            _, found = await page.get("/api/models/")
            if {model["id"]: model["live"] for model in found["models"]} == wanted and found["known"]:
                return found
            await asyncio.sleep(0.05)


async def next_frame(events: Events, kind: str) -> dict:
    async with asyncio.timeout(20):
        while (frame := await events.next())["type"] != kind:
            pass
        return frame


@pytest.mark.long
async def test_models_follow_the_generators(cluster, http):
    """One generator comes, is killed, and another one with another model takes its place."""
    api = await cluster.add_service("api", **FAST)
    await cluster.add_service("janitor", **FAST)
    await cluster.start()
    page = FrontEnd(http, cluster.urls["api"])
    async with painter_of("sdxl") as first, painter_of("flux") as second, page.socket() as events:
        _, unknown = await page.get("/api/models/")
        early = await page.order(model="anything")
        assert (unknown["known"], early["waitingFor"]) == (False, None)
        await page.post(f"/api/images/{early['id']}/cancel/")

        await add_generator(cluster, "generator-1", first.url)
        found = await until_models(page, {"sdxl": True})
        await next_frame(events, "models")
        assert found["models"][0]["samplers"] == ["of sdxl"]
        status, refusal = await page.post("/v1/images/generations", {"prompt": "x", "model": "flux"})
        assert (status, refusal["code"]) == (400, "unknown_model")
        assert "sdxl" in refusal["fields"]["model"]
        assert (await page.final((await page.order(sampler="of sdxl"))["id"]))["status"] == "completed"

        cluster.services["generator-1"].signal(signal.SIGKILL)
        await until_models(page, {"sdxl": False})
        await next_frame(events, "models")
        waiting = await page.order(sampler="of sdxl")
        assert (waiting["status"], waiting["waitingFor"]) == ("queued", NO_GENERATOR)
        assert (await next_frame(events, "waiting"))["waitingFor"] == {waiting["id"]: NO_GENERATOR}
        _, read = await page.get(f"/api/images/{waiting['id']}/")
        assert read["waitingFor"] == NO_GENERATOR

        second.always(second.hold)
        await add_generator(cluster, "generator-2", second.url)
        await until_models(page, {"flux": True, "sdxl": False})
        _, document = await page.get("/openapi.json")
        assert document["components"]["schemas"]["GenerationRequest"]["properties"]["model"]["enum"] == ["flux", "sdxl"]
        assert (await page.order(model="flux", sampler="of flux"))["waitingFor"] is None
        assert (await page.post("/v1/images/generations", {"prompt": "x", "model": "x"}))[0] == 400

        _, read = await page.get(f"/api/images/{waiting['id']}/")
        assert (read["status"], read["attempts"]) == ("queued", 0)  # the generator that has another model lets it wait
        await add_generator(cluster, "generator-3", first.url)
        await until_models(page, {"flux": True, "sdxl": True})
        assert (await page.final(waiting["id"]))["status"] == "completed"
        assert waiting["id"] in first.keys
        assert waiting["id"] not in second.keys
        while (await next_frame(events, "waiting"))["waitingFor"]:
            pass
        second.released.set()
    assert "INFERENCE_SERVICE_URL" not in api.env
