"""A field of one owner's order that the server does not know delays nobody else."""

import pytest

from common.domain.images import Parameters
from common.runtime import metrics
from tests.engines.cog import SCHEMA, Cog
from tests.engines.engine import EngineFake, running
from tests.engines.openai import FakeMaker, OpenAi
from tests.engines.sdapi import SdApi
from tests.engines.sdapi_programs import FakeProgram
from tests.unit.generator.test_generate import bench


def parameters(*, sampler: str = "Euler", cfg_scale: float = 7.5) -> Parameters:
    return Parameters(steps=4, cfg_scale=cfg_scale, sampler=sampler, seed=7, hires_fix=False)


def sdnext() -> SdApi:
    """It answers 404 to a sampler that it lists."""
    engine = SdApi(FakeProgram.SDNEXT)
    engine.forgotten.append("Heun")
    return engine


def vllm() -> OpenAi:
    """It answers 404 to a model that it lists."""
    engine = OpenAi(FakeMaker.VLLM)
    engine.forgotten.append("gone")
    engine.models = [*engine.models, "gone"]
    return engine


def cog() -> Cog:
    """It answers 422 to a scale that its schema allows."""
    engine = Cog()
    engine.schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "guidance_scale": {"type": "number"}}}
    engine.refused_scale = 25.0
    return engine


CASES: dict = {
    "sdapi": (sdnext, {"model": "Diffusers/tiny-sd"}, {"parameters": parameters(sampler="Heun")}),
    "openai": (vllm, {"model": "Qwen/Qwen-Image"}, {"model": "gone"}),
    "cog": (cog, {}, {"parameters": parameters(cfg_scale=25.0)}),
}


@pytest.mark.border(rule="B6")
@pytest.mark.parametrize("scheme", CASES)
async def test_a_refused_field_delays_nobody_else(tmp_path, scheme):
    """Ten orders with the field fail, and the circuit stays closed: an order without it is painted at once."""
    make, fields, refused = CASES[scheme]
    engine: EngineFake = make()
    async with running(engine), bench(tmp_path, inference_url=f"{scheme}+{engine.url}") as made:
        bad = [await made.order(**{**fields, **refused}) for _ in range(10)]
        good = await made.order(**fields)

        assert {(await made.final(image_id)).error.code for image_id in bad} == {"inference_refused"}
        assert (await made.final(good)).status == "completed"
        assert metrics.circuit_open.labels(engine.url.partition("//")[2])._value.get() == 0
        assert len(engine.orders) == 11


@pytest.mark.border(rule="B6")
@pytest.mark.parametrize("scheme", CASES)
async def test_a_wrong_url_makes_orders_wait(tmp_path, scheme):
    """The other 404: there is nothing at this URL, and no owner can mend it."""
    make, fields, _ = CASES[scheme]
    engine: EngineFake = make()
    async with running(engine), bench(tmp_path, inference_url=f"{scheme}+{engine.url}/nowhere") as made:
        image_id = await made.order(**fields)
        found = await made.store.get(image_id)
        while found.error is None:
            await made.events(image_id, "queued", "retried")
            found = await made.store.get(image_id)

        assert (found.status.is_final, found.error.code) == (False, "inference_unavailable")
        assert engine.orders == []
