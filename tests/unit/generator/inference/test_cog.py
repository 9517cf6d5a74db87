"""The client of cog containers, against a fake; tests/contract runs it against a real one."""

import asyncio

import pytest

from common.application.capabilities import Feature
from common.domain.errors import BadImage, Denied, Rejected, Transient
from services.generator.inference.cog.inputs import order_input, parse_model
from tests.engines.bench import cancelled_while_painting, connected, ignore, job_with, painted
from tests.engines.cog import ENUMS, SCHEMA, Cog
from tests.engines.engine import EngineFault


@pytest.fixture(params=[True, False], ids=["streaming", "plain"])
def engine(request) -> Cog:
    return Cog(streaming=request.param)


async def test_an_order_fills_the_inputs_of_the_model(engine):
    async with connected(engine, "cog") as backend:
        await painted(backend, negative_prompt="rain", sampler="Euler a", seed=11, steps=3, width=128)

    assert engine.orders == [
        {
            "prompt": "a lighthouse",
            "negative_prompt": "rain",
            "width": 128,
            "height": 64,
            "num_inference_steps": 3,
            "guidance_scale": 7.5,
            "scheduler": "K_EULER_ANCESTRAL",
            "seed": 11,
            "num_outputs": 1,
            "output_format": "png",
        }
    ]


async def test_capabilities_are_those_of_the_model(engine):
    async with connected(engine, "cog", path="/?model=sdxl") as backend:
        found = await backend.capabilities()

    (model,) = found.models
    assert (found.dialect, found.version, found.engine) == ("cog", "0.23.1", "cog")
    assert (model.id, model.max_width, model.max_steps) == ("sdxl", 1024, 100)
    assert found.samplers == ("Euler", "Euler a", "DDIM", "DPM++ 2M")
    assert (Feature.PROGRESS in (found.features or ())) == engine.streaming


async def test_progress_is_read_from_the_log():
    engine, steps = Cog(), []
    async with connected(engine, "cog") as backend:
        await backend.generate(job_with(steps=4), lambda *at: steps.append(at))

    assert steps[-1] == (4, 4)
    assert steps == sorted(set(steps))


# ------------------------------------------------------------- inputs


def model_with(properties: dict, **more):
    schemas = {"Input": {"properties": {"prompt": {"type": "string"}, **properties}, **more}, **ENUMS}
    return parse_model({"components": {"schemas": schemas}})


SIZE = {"width": {"type": "integer"}, "height": {"type": "integer"}}


@pytest.mark.parametrize(
    ("properties", "fields", "name"),
    [
        ({**SIZE, "steps": {"type": "integer", "maximum": 10}}, {"steps": 11}, "steps"),
        ({**SIZE, "steps": {"type": "integer", "minimum": 5}}, {"steps": 4}, "steps"),
        (SIZE, {"steps": 31}, "steps"),
        (SIZE, {"steps": 30, "cfg_scale": 3.0}, "cfg_scale"),
        (SIZE, {"steps": 30, "sampler": "DDIM"}, "sampler"),
        (SIZE, {"steps": 30, "hires_fix": True}, "hires_fix"),
        (SIZE, {"steps": 30, "negative_prompt": "rain"}, "negative_prompt"),
        ({**SIZE, "cfg": {"type": "integer"}}, {"steps": 30}, "cfg_scale"),
        ({"width": {"enum": [512, 768], "type": "integer"}, "height": {"type": "integer"}}, {"steps": 30}, "width"),
        ({}, {"steps": 30}, "width"),
        ({"aspect_ratio": {"enum": ["16:9"]}}, {"steps": 30}, "width"),
        ({**SIZE, "scheduler": {"allOf": [{"$ref": "#/components/schemas/scheduler"}]}}, {"sampler": "LCM"}, "sampler"),
        ({**SIZE, "scheduler": {"$ref": "#/components/schemas/scheduler"}}, {"sampler": "LCM"}, "sampler"),
    ],
)
def test_a_field_that_the_model_cannot_honour_is_refused(properties, fields, name):
    fields = {"steps": 30} | fields
    with pytest.raises(Rejected, match=f"^{name}:"):
        order_input(job_with(**fields), model_with(properties))


def test_a_size_may_be_a_ratio():
    model = model_with({"aspect_ratio": {"enum": ["1:1", "16:9"]}})

    assert order_input(job_with(steps=30, width=1024, height=576), model)["aspect_ratio"] == "16:9"


def test_a_whole_scale_fits_an_integer():
    order = order_input(job_with(steps=30, cfg_scale=7.0), model_with({**SIZE, "cfg": {"type": "integer"}}))

    assert order["cfg"] == 7
    assert isinstance(order["cfg"], int)


def test_a_custom_ratio_is_chosen_for_a_size():
    order = order_input(job_with(steps=30), model_with({**SIZE, "aspect_ratio": {"enum": ["1:1", "custom"]}}))

    assert (order["aspect_ratio"], order["width"]) == ("custom", 64)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"error": "OpenAPI schema not available"},
        {"components": {"schemas": {"Input": {"properties": {"image": {"type": "string"}}}}}},
        {"components": {"schemas": {"Input": {"properties": {"prompt": 3, "lora": {}}, "required": ["lora"]}}}},
    ],
)
def test_a_model_that_cannot_be_ordered_is_for_the_operator(document):
    with pytest.raises(Denied):
        parse_model(document)


def test_odd_schemas_are_survived():
    odd = {"width": {"minimum": "x", "maximum": True, "enum": 3}, "height": {"allOf": [3]}, "seed": {"$ref": 3}}

    model = parse_model({"components": {"schemas": {"Input": {"properties": {"prompt": {}, **odd}, "required": 3}}}})

    assert set(model.names) == {"prompt", "width", "height", "seed"}


# ------------------------------------------------------------- health and failures


@pytest.mark.parametrize(
    ("health", "error"),
    [("STARTING", Transient), ("UNHEALTHY", Transient), ("SETUP_FAILED", Denied), ("DEFUNCT", Denied)],
)
async def test_a_container_that_is_not_ready(engine, health, error):
    async with connected(engine, "cog") as backend:
        await painted(backend, steps=1)
        engine.health = health
        with pytest.raises(error):
            await painted(backend, steps=1)
        with pytest.raises(error):
            await backend.capabilities(fresh=True)


async def test_a_container_without_a_schema_is_for_the_operator(engine):
    engine.schema = None
    async with connected(engine, "cog") as backend:
        with pytest.raises(Denied):
            await painted(backend)


async def test_no_container_at_the_url_is_for_the_operator(engine):
    async with connected(engine, "cog", path="/below") as backend:
        with pytest.raises(Denied):
            await painted(backend)


async def test_two_jobs_take_turns(engine):
    """The second would get 409, which counts as a failure of its image."""
    async with connected(engine, "cog") as backend:
        await asyncio.gather(painted(backend, steps=2), painted(backend, steps=2))

    assert len(engine.painted) == 2


@pytest.mark.parametrize("fields", [{"prompt": "x"}, {"width": 1025}])
async def test_a_refusal_costs_the_order_only(engine, fields):
    engine.schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "prompt": {"type": "integer"}}}
    async with connected(engine, "cog") as backend:
        with pytest.raises(Rejected):
            await painted(backend, **fields)


# ------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    "output",
    [
        None,
        3,
        {},
        [],
        [3],
        "text",
        "ftp://host/x.png",
        "file:///etc/passwd",
        "data:image/png;base64,%",
        "data:image/png,x",
        ["//evil.example/x.png"],
        "http://[::1",
        "http://127.0.0.1:1/secret",
        "http://169.254.169.254/latest/meta-data",
        "https://{host}/files/x",
        "http://user@{host}/files/x",
    ],
)
async def test_an_output_that_is_no_picture_of_ours(engine, output):
    async with connected(engine, "cog") as backend:
        engine.output = output if output is not None else []
        if isinstance(output, str):
            engine.output = output.replace("{host}", engine.url.removeprefix("http://"))
        with pytest.raises(BadImage):
            await painted(backend, steps=1)

    assert engine.fetched == []


async def test_a_file_of_the_container_is_fetched(engine):
    async with connected(engine, "cog") as backend:
        engine.output = [f"{engine.url}/files/out.png"]
        generated = await painted(backend, steps=1)

    assert generated.content.startswith(b"\x89PNG")
    assert engine.fetched == ["/files/out.png"]


async def test_a_failure_has_its_reason(engine):
    engine.will(EngineFault.ERROR_INSIDE)
    async with connected(engine, "cog") as backend:
        with pytest.raises(Transient, match="NSFW content detected"):
            await painted(backend, steps=1)


async def test_stop_ends_our_prediction(engine):
    async with connected(engine, "cog") as backend:
        job = job_with(steps=2)
        await cancelled_while_painting(backend, engine, job)
        await asyncio.wait_for(backend.stop(job), 1)
        await asyncio.wait_for(engine.idle.wait(), 1)

        assert engine.stopped == [engine.orders[0]]
        engine.release()
        await backend.generate(job, ignore)
