"""What the inference server refuses."""

import pytest

from services.inference.engine import EngineCapabilities, ModelCard
from tests.unit.inference.support import PATH, FakeEngine, served


@pytest.mark.parametrize(
    ("body", "status", "code", "detail"),
    [
        (b"{", 400, "bad_json", "not valid JSON: Expecting"),
        (b"\xff{}", 400, "bad_json", "not UTF-8: byte 0"),
        (b"[" * 200_000, 400, "bad_json", "nested too deeply"),  # Python 3.14 reads some 60,000 levels
        (b'{"prompt": "a", "cfg_scale": NaN}', 400, "bad_json", "NaN is not a JSON number"),
        (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, "bad_json", "a number is too long"),
        (b'{"prompt": "a", "prompt": "b"}', 400, "bad_json", "the key 'prompt' is repeated"),
        (b'{"prompt": "a"}{}', 400, "bad_json", "Extra data at character 15"),
        (b'["prompt"]', 400, "bad_json", "expected a JSON object, got an array"),
        (b"{}", 422, "invalid", "prompt: expected a value, got nothing"),
        (b'{"prompt": ""}', 422, "invalid", 'got ""'),
        (b'{"prompt": "' + b"x" * 4_001 + b'"}', 422, "invalid", "got a string of 4001 characters"),
        (b'{"prompt": "\\ud800"}', 422, "invalid", "prompt: expected"),
        (b'{"prompt": "a", "width": "512"}', 422, "invalid", 'width: expected integer, got "512"'),
        (b'{"prompt": "a", "width": 513}', 422, "invalid", "width: expected a multiple of 8, got 513"),
        (b'{"prompt": "a", "width": 2048}', 422, "invalid", "width: expected at most 1024 for sdxl, got 2048"),
        (b'{"prompt": "a", "cfg_scale": 1e999}', 422, "invalid", "cfg_scale: expected a finite number"),
        (b'{"prompt": "a", "num_images": 2}', 422, "invalid", "num_images: expected 1, got 2"),
        (b'{"prompt": "a", "guidance": 3}', 422, "invalid", "guidance: expected one of the fields prompt,"),
        (b'{"prompt": "a", "model": "sd9"}', 422, "invalid", 'model: expected one of sdxl, got "sd9"'),
        (b'{"prompt": "a", "sampler": "Heun"}', 422, "invalid", 'sampler: expected one of Euler, got "Heun"'),
        (b'{"prompt": "' + b"x" * 300_000 + b'"}', 413, "too_large", "262144 bytes"),
    ],
)
async def test_generations_refuses(body, status, code, detail):
    engine = FakeEngine()
    headers = {"Content-Type": "application/json"}
    async with served(engine) as client, client.post(PATH, data=body, headers=headers) as answer:
        problem = await answer.json()

        assert (answer.status, problem["code"]) == (status, code)
        assert detail in problem["detail"]
    assert engine.painted == []


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("height", 72, "a multiple of 16 for flux"),
        ("steps", 9, "at most 8 for flux"),
        ("hires_fix", True, "false for flux"),
        ("negative_prompt", "blurry", "an empty text for flux"),
    ],
)
async def test_a_model_may_have_limits_of_its_own(field, value, expected):
    card = ModelCard(
        id="flux", name="", samplers=("Euler",), max_steps=8, grid=16, hires_fix=False, negative_prompt=False
    )
    engine = FakeEngine(can=EngineCapabilities(engine="fake", notice="", models=(card,), samplers=("Euler",)))
    body = {"prompt": "a", "model": "flux", "steps": 1, field: value}
    async with served(engine) as client, client.post(PATH, json=body) as answer:
        problem = await answer.json()

    assert (answer.status, problem["code"]) == (422, "invalid")
    assert [(one["field"], one["expected"]) for one in problem["fields"]] == [(field, expected)]
    assert engine.painted == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", PATH, {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("POST", PATH, {"Content-Type": "application/json", "Idempotency-Key": "k" * 256}, 400, "bad_request"),
        ("GET", PATH, {}, 405, "method_not_allowed"),
        ("POST", "/v1/images", {}, 404, "not_found"),
    ],
)
async def test_other_requests_are_refused_as_json(method, path, headers, status, code):
    body = b"{}" if method == "POST" else None
    async with (
        served(FakeEngine()) as client,
        client.request(method, path, data=body, headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_a_key_is_asked_for_where_one_is_set():
    async with served(FakeEngine(), api_key="sesame") as client:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer open"}, 401),
            ({"Authorization": "sesame"}, 401),
            ({"Authorization": "Bearer sesame"}, 200),
        ):
            async with client.get("/inference/capabilities", headers=headers) as answer:
                assert answer.status == status
        async with client.post(PATH, json={"prompt": "a"}) as answer:
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "sesame" not in await answer.text()
        async with client.get("/healthz") as answer:
            assert answer.status == 200
