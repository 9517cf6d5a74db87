"""The client for OpenAI's route, against fakes of the servers that have it."""

import json

import pytest

from common.domain.errors import BadImage, Denied, Misconfigured, Rejected, Transient
from tests.engines.bench import connected, ignore, job_with, painted
from tests.engines.engine import EngineFault
from tests.engines.openai import MODELS, FakeMaker, OpenAi

LOCAL = [FakeMaker.VLLM, FakeMaker.SGLANG, FakeMaker.LOCALAI, FakeMaker.SDSERVER, FakeMaker.OTHER]
NAMES = {
    FakeMaker.OPENAI: "OpenAI",
    FakeMaker.VLLM: "vLLM-Omni",
    FakeMaker.SGLANG: "SGLang",
    FakeMaker.LOCALAI: "LocalAI",
    FakeMaker.SDSERVER: "sd-server",
    FakeMaker.OTHER: "unknown",
}
SQUARE = {"width": 1024, "height": 1024}


def fields(maker: FakeMaker) -> dict:
    """What each server can paint, with nothing that it has no setting for."""
    found = {"model": MODELS[maker][0]}
    if maker is FakeMaker.OPENAI:
        return {**found, **SQUARE, "steps": 30}
    return {**found, "steps": 30} if maker is FakeMaker.OTHER else found


@pytest.fixture(params=FakeMaker)
def engine(request) -> OpenAi:
    return OpenAi(request.param)


async def test_the_server_is_told_apart(engine):
    async with connected(engine, "openai") as backend:
        found = await backend.capabilities()

    assert (found.engine, found.dialect) == (NAMES[engine.maker], "openai")
    assert MODELS[engine.maker][0] in [each.id for each in found.models]


async def test_the_kind_may_be_in_the_url():
    async with connected(OpenAi(FakeMaker.OTHER), "openai", path="?server=localai&model=one,two") as backend:
        found = await backend.capabilities()

    assert (found.engine, [each.id for each in found.models]) == ("LocalAI", ["one", "two"])


async def test_an_unknown_kind_is_refused_at_the_start():
    with pytest.raises(Misconfigured, match="localai"):
        async with connected(OpenAi(FakeMaker.OTHER), "openai", path="?server=nope"):
            pass


async def test_a_picture_is_painted(engine):
    async with connected(engine, "openai", MAX_IMAGE_FILE_SIZE="3000000") as backend:
        generated = await painted(backend, **fields(engine.maker))

    assert generated.content.startswith(b"\x89PNG")
    assert engine.orders[0]["n"] == 1


async def test_the_path_of_a_url_is_kept():
    engine = OpenAi(FakeMaker.OTHER)
    async with connected(engine, "openai", path="/v1/") as backend:
        await painted(backend, **fields(engine.maker))


@pytest.mark.parametrize(
    ("maker", "sent"),
    [
        (FakeMaker.VLLM, {"negative_prompt": "rain", "num_inference_steps": 5, "guidance_scale": 7.5, "seed": 7}),
        (FakeMaker.SGLANG, {"negative_prompt": "rain", "num_inference_steps": 5, "guidance_scale": 7.5, "seed": 7}),
        (FakeMaker.LOCALAI, {"prompt": "a lighthouse|rain", "step": 5, "seed": 7}),
    ],
)
async def test_settings_are_sent_where_they_exist(maker, sent):
    engine = OpenAi(maker)
    async with connected(engine, "openai") as backend:
        await painted(backend, model=MODELS[maker][0], negative_prompt="rain", steps=5)

    assert sent.items() <= engine.orders[0].items()
    assert engine.orders[0]["response_format"] == "b64_json"


async def test_sdserver_gets_its_settings_inside_the_prompt():
    engine = OpenAi(FakeMaker.SDSERVER)
    bad = '</sd_cpp_extra_args><sd_cpp_extra_args>{"seed": 1}</sd_cpp_extra_args>'
    async with connected(engine, "openai") as backend:
        job = {"prompt": f"x {bad}", "negative_prompt": bad, "steps": 3, "sampler": "Euler a"}
        await painted(backend, model="sd-cpp-local", **job)

    order = engine.orders[0]
    assert order["prompt"].count("<sd_cpp_extra_args>") == order["prompt"].count("</sd_cpp_extra_args>") == 1
    assert engine.extra(order) == {
        "seed": 7,
        "negative_prompt": bad,
        "sample_params": {"sample_steps": 3, "sample_method": "euler_a", "guidance": {"txt_cfg": 7.5}},
    }


@pytest.mark.parametrize("maker", [FakeMaker.LOCALAI, FakeMaker.OTHER])
async def test_a_bar_in_a_prompt_is_no_negative_prompt(maker):
    engine = OpenAi(maker)
    async with connected(engine, "openai") as backend:
        await painted(backend, **{**fields(maker), "prompt": "a|b|c"})

    assert engine.orders[0]["prompt"] == "a¦b¦c"


@pytest.mark.parametrize("maker", [FakeMaker.LOCALAI, FakeMaker.SDSERVER, FakeMaker.OTHER])
async def test_no_order_loads_a_network(maker):
    engine = OpenAi(maker)
    async with connected(engine, "openai") as backend:
        await painted(backend, **{**fields(maker), "prompt": "a <lora:secret:1> cat"})

    assert engine.orders[0]["prompt"].startswith("a < lora:secret:1> cat")


@pytest.mark.parametrize("name", ["steps", "cfg_scale", "sampler", "hires_fix", "negative_prompt"])
async def test_openai_has_none_of_our_settings(name):
    values = {"steps": 20, "cfg_scale": 3.0, "sampler": "DDIM", "hires_fix": True, "negative_prompt": "rain"}
    engine = OpenAi(FakeMaker.OPENAI)
    async with connected(engine, "openai") as backend:
        with pytest.raises(Rejected, match=f"^{name}:"):
            await painted(backend, **{**fields(FakeMaker.OPENAI), name: values[name]})

    assert engine.orders == []


@pytest.mark.parametrize(
    ("model", "size", "is_painted"),
    [
        ("gpt-image-1", (1024, 1024), True),
        ("gpt-image-1", (1024, 1032), False),
        ("gpt-image-2", (1040, 1024), True),
        ("gpt-image-2", (1032, 1024), False),
        ("gpt-image-2", (2048, 640), False),
        ("dall-e-3", (512, 512), False),
    ],
)
async def test_openai_sizes(model, size, is_painted):
    engine = OpenAi(FakeMaker.OPENAI)
    async with connected(engine, "openai", MAX_IMAGE_FILE_SIZE="9000000") as backend:
        job = job_with(model=model, width=size[0], height=size[1], steps=30)
        if is_painted:
            await backend.generate(job, ignore)
        else:
            with pytest.raises(Rejected, match=r"^width:"):
                await backend.generate(job, ignore)


async def test_openai_streams_its_previews():
    engine = OpenAi(FakeMaker.OPENAI)
    shown: list[bytes] = []
    async with connected(engine, "openai", MAX_IMAGE_FILE_SIZE="3000000") as backend:
        await backend.generate(job_with(**fields(FakeMaker.OPENAI)), ignore, shown.append)

    assert [each[:4] for each in shown] == [b"\x89PNG"] * 2
    assert engine.orders[0].items() >= {"stream": True, "partial_images": 2}.items()
    assert "response_format" not in engine.orders[0]


@pytest.mark.parametrize("count", [0, 1, 30])
async def test_any_number_of_partial_images_is_taken(count):
    engine = OpenAi(FakeMaker.OPENAI)
    engine.partial_images = count
    async with connected(engine, "openai", MAX_IMAGE_FILE_SIZE="3000000") as backend:
        generated = await backend.generate(job_with(**fields(FakeMaker.OPENAI)), ignore, lambda _: None)

    assert generated.content.startswith(b"\x89PNG")


# ------------------------------------------------------------- errors


def envelope(message="no", kind="invalid_request_error", param=None, code=None) -> dict:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, envelope(code="moderation_blocked"), Rejected),
        (400, envelope(code="billing_hard_limit_reached"), Denied),
        (401, envelope(code="invalid_api_key"), Denied),
        (403, envelope(), Denied),
        (404, envelope(param="model", code="model_not_found"), Rejected),
        (404, envelope(param="size"), Rejected),
        (404, {"detail": "Not Found"}, Rejected),  # the route is there: it answers 405 to a GET
        (409, envelope(), Rejected),
        (422, {"detail": [{"loc": ["body", "size"], "msg": "no"}]}, Rejected),
        (429, envelope(code="rate_limit_exceeded"), Transient),
        (429, envelope(code="insufficient_quota"), Denied),
        (500, {"error": "server_error", "message": "x"}, Transient),
        (500, {"error": {"code": 500, "message": "x", "type": ""}}, Transient),
        (500, [[]], Transient),
        (503, {"detail": "no"}, Transient),
        (201, {"data": []}, BadImage),
    ],
)
async def test_an_error_is_classified(status, body, error):
    engine = OpenAi(FakeMaker.OTHER)
    engine.failure = (status, body)
    async with connected(engine, "openai") as backend:
        with pytest.raises(error):
            await painted(backend, **fields(engine.maker))


async def test_a_missing_route_is_for_the_operator(engine):
    """The server lists its models, and paints none."""
    engine.has_route = False
    async with connected(engine, "openai") as backend:
        with pytest.raises(Denied):
            await painted(backend, **fields(engine.maker))


async def test_a_404_after_a_picture_is_about_the_order():
    engine = OpenAi(FakeMaker.VLLM)
    async with connected(engine, "openai") as backend:
        await painted(backend, **fields(engine.maker))
        engine.failure = (404, {"detail": "no such adapter"})
        with pytest.raises(Rejected):
            await painted(backend, **fields(engine.maker))


async def test_a_model_that_went_away_is_the_owners_error():
    engine = OpenAi(FakeMaker.VLLM)
    async with connected(engine, "openai") as backend:
        await backend.capabilities()
        engine.models = ["another"]
        with pytest.raises(Rejected):
            await painted(backend, **fields(engine.maker))


@pytest.mark.parametrize("streams", [True, False])
async def test_an_error_inside_of_an_answer(streams):
    engine = OpenAi(FakeMaker.OPENAI)
    engine.will(EngineFault.ERROR_INSIDE)
    async with connected(engine, "openai") as backend:
        with pytest.raises(Rejected, match="blocked"):
            await backend.generate(job_with(**fields(engine.maker)), ignore, print if streams else None)


# ------------------------------------------------------------- urls


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.png",
        "http://169.254.169.254/latest/meta-data",
        "https://{host}/generated-images/x.png",
        "http://user:password@{host}/generated-images/x.png",
        "//evil.example/generated-images/x.png",
        "file:///etc/passwd",
        "http://[",
        "data:image/png,x",
    ],
)
async def test_a_url_elsewhere_is_not_fetched(url):
    engine = OpenAi(FakeMaker.LOCALAI)
    async with connected(engine, "openai") as backend:
        engine.answers_url = url.replace("{host}", engine.url.removeprefix("http://"))
        with pytest.raises(BadImage):
            await painted(backend, **fields(engine.maker))

    assert engine.fetched == []


@pytest.mark.parametrize("url", ["{url}/generated-images/x.png", "/generated-images/x.png"])
async def test_a_url_of_the_server_is_fetched(url):
    engine = OpenAi(FakeMaker.LOCALAI)
    async with connected(engine, "openai") as backend:
        engine.answers_url = url.replace("{url}", engine.url)
        generated = await painted(backend, **fields(engine.maker))

    assert generated.content.startswith(b"\x89PNG")
    assert engine.fetched == ["/generated-images/x.png"]


@pytest.mark.parametrize(
    "answer",
    [[], None, 3, {}, {"data": {}}, {"data": [3]}, {"data": [{}]}, {"data": [{"b64_json": 3}]}, {"data": [None]}],
)
async def test_an_odd_answer_is_a_bad_image(answer):
    engine = OpenAi(FakeMaker.OTHER)
    engine.failure = (200, answer)
    async with connected(engine, "openai") as backend:
        with pytest.raises(BadImage):
            await painted(backend, **fields(engine.maker))


async def test_the_key_is_sent_as_bearer():
    engine = OpenAi(FakeMaker.OTHER)
    engine.token = "secret"
    async with connected(engine, "openai", INFERENCE_SERVICE_API_KEY="secret") as backend:
        await painted(backend, **fields(engine.maker))

    assert json.dumps(engine.headers).count("Bearer secret") == 1
