"""Errors below `/openai`: OpenAI's envelope, the classes of the SDK, its own retries."""

import json
import time

import aiohttp
import openai
import pytest

from common.domain.errors import Unavailable
from common.media.files import FileMedia
from tests.inference_double import status
from tests.openai.conftest import WITH_IDENTITY
from tests.openai.test_sdk import PROMPT, SIZE

GENERATIONS = "/openai/v1/images/generations"


BAD_FIELDS: list[tuple[dict, str, str]] = [
    ({"prompt": ""}, "string_below_min_length", "prompt"),
    ({"prompt": "x" * 4001}, "string_above_max_length", "prompt"),
    ({"size": "100x100"}, "invalid_value", "size"),
    ({"size": "4096x4096"}, "invalid_value", "size"),
    ({"n": 0}, "integer_below_min_value", "n"),
    ({"n": 11}, "integer_above_max_value", "n"),
    ({"n": 2, "stream": True}, "invalid_value", "n"),
    ({"output_format": "svg"}, "invalid_value", "output_format"),
    ({"quality": "best"}, "invalid_value", "quality"),
    ({"extra_body": {"width": 64}}, "unknown_parameter", "width"),
    ({"extra_body": {"prompt": 7}}, "invalid_type", "prompt"),
    ({"extra_body": {"stream": "yes"}}, "invalid_type", "stream"),
    ({"extra_body": {"frame_count": 3}}, "unsupported_parameter", "frame_count"),
]


async def test_a_bad_request_names_the_field(darkroom):
    client = darkroom.client(retries=2)
    for fields, code, param in BAD_FIELDS:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.images.generate(**{"prompt": PROMPT, **fields})

        error = raised.value
        assert (error.code, error.param, error.type) == (code, param, "invalid_request_error"), fields
        assert param in error.message
        assert error.response.headers["x-should-retry"] == "false"
    assert not darkroom.inference.orders


async def test_more_images_than_ever_fit_name_the_field(serve):
    async with serve(REQUESTS_PER_HOUR="3") as darkroom:
        with pytest.raises(openai.BadRequestError) as raised:
            await darkroom.client().images.generate(prompt=PROMPT, n=4)

    assert (raised.value.code, raised.value.param) == ("too_many_images", "n")


async def test_every_optional_field_may_be_null(darkroom):
    names = "model n size response_format output_format output_compression stream partial_images quality style"
    names += " background moderation complexity user safety_identifier frame_count svg seed steps negative_prompt"

    found = await darkroom.client().images.generate(prompt=PROMPT, extra_body=dict.fromkeys(names.split()))

    assert found.data[0].b64_json


async def test_fields_that_mean_nothing_here_are_ignored(darkroom):
    await darkroom.client().images.generate(
        prompt=PROMPT, size=SIZE, quality="hd", style="vivid", background="transparent", moderation="low", user="u-1",
        complexity="high", safety_identifier="s",
    )  # fmt: skip

    assert len(darkroom.inference.orders) == 1


@pytest.mark.parametrize(
    ("answer", "error", "code", "expected"),
    [
        (status(422, "no"), openai.BadRequestError, "inference_refused", 400),
        (status(500, "no"), openai.InternalServerError, "inference_failed", 502),
    ],
)
async def test_a_failed_image_is_not_ordered_again(darkroom, answer, error, code, expected):
    darkroom.inference.always(answer)

    with pytest.raises(error) as raised:
        await darkroom.client(retries=2).images.generate(prompt=PROMPT, size=SIZE)

    assert (raised.value.status_code, raised.value.code) == (expected, code)
    assert len(await darkroom.history()) == 1


async def test_of_several_images_the_completed_ones_are_answered(darkroom):
    darkroom.inference.will(status(422, "no"))

    found = await darkroom.client().images.generate(prompt=PROMPT, size=SIZE, n=3)

    assert len(found.data) == 2


async def test_without_a_valid_key_the_sdk_says_so(serve):
    async with serve(**WITH_IDENTITY) as darkroom:
        with pytest.raises(openai.AuthenticationError) as raised:
            await darkroom.client(token="sk-wrong").images.generate(prompt=PROMPT)
        with pytest.raises(openai.AuthenticationError):
            await darkroom.client(token="sk-wrong").images.edit(image=b"x" * 1_000_000, prompt=PROMPT)

    assert (raised.value.code, raised.value.type) == ("invalid_api_key", "invalid_request_error")


async def test_a_used_up_hour_is_a_rate_limit_that_is_not_retried(serve):
    async with serve(REQUESTS_PER_HOUR="1") as darkroom:
        client = darkroom.client(retries=3)
        await client.images.generate(prompt=PROMPT, size=SIZE)
        began_s = time.monotonic()

        with pytest.raises(openai.RateLimitError) as raised:
            await client.images.generate(prompt=PROMPT, size=SIZE)

    assert time.monotonic() - began_s < 3
    assert (raised.value.code, raised.value.type) == ("rate_limit_exceeded", "requests")
    assert int(raised.value.response.headers["retry-after"]) > 120
    assert raised.value.response.headers["x-should-retry"] == "false"


async def test_an_order_that_is_refused_leaves_nothing(serve):
    """Three images are left of the hour; four are refused as a whole."""
    async with serve(REQUESTS_PER_HOUR="4") as darkroom:
        client = darkroom.client()
        await client.images.generate(prompt=PROMPT, size=SIZE)

        with pytest.raises(openai.RateLimitError):
            await client.images.generate(prompt=PROMPT, size=SIZE, n=4)

        assert len(await darkroom.history()) == 1
        assert len(darkroom.inference.orders) == 1


async def test_more_images_than_slots_wait_for_their_turns(serve):
    async with serve(CONCURRENT_REQUESTS="2") as darkroom:
        found = await darkroom.client().images.generate(prompt=PROMPT, size=SIZE, n=4)

    assert len(found.data) == 4


async def test_every_error_is_an_envelope(serve):
    """404, 405, 413, 415, 400 of another body, and what the SDK has but this server has not."""
    async with serve() as darkroom, aiohttp.ClientSession(darkroom.url) as http:
        requests: list[tuple[str, str, dict, int, str]] = [
            ("GET", "/openai", {}, 404, "unknown_url"),
            ("GET", "/openai/", {}, 404, "unknown_url"),
            ("POST", "/openai/v1/chat/completions", {"json": {}}, 404, "unknown_url"),
            ("GET", "/openai/v1/models/no/such", {}, 404, "model_not_found"),
            ("PUT", "/openai/v1/models", {}, 405, "method_not_allowed"),
            ("GET", GENERATIONS, {}, 405, "method_not_allowed"),
            ("POST", GENERATIONS, {"data": b"x" * 200_000}, 415, "not_json"),
            ("POST", GENERATIONS, {"json": {"prompt": "x" * 200_000}}, 413, "body_too_large"),
            ("POST", GENERATIONS, {"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_json"),
            ("POST", GENERATIONS, {"json": []}, 400, "invalid_type"),
            ("POST", GENERATIONS, {"json": {}}, 400, "missing_required_parameter"),
            ("POST", "/openai/v1/images/edits", {"data": b"x" * 1_000_000}, 404, "unsupported_endpoint"),
            ("POST", "/openai/v1/images/variations/", {}, 404, "unsupported_endpoint"),
            ("GET", "/openai/v1/models", {"headers": {"Host": "evil.example.org"}}, 403, "host_not_allowed"),
            ("POST", GENERATIONS, {"headers": {"Origin": "https://evil.example.org"}}, 403, "origin_not_allowed"),
        ]
        for method, path, more, expected, code in requests:
            async with http.request(method, path, **more) as response:
                body = json.loads(await response.text())
                assert (response.status, body["error"]["code"]) == (expected, code), (method, path, body)
                assert response.content_type == "application/json"
                assert response.headers["x-request-id"].startswith("req_")
                assert response.headers["x-should-retry"] == "false"
            assert set(body) == {"error"}
            assert set(body["error"]) == {"message", "type", "param", "code"}
        async with http.get("/api/none") as response:
            assert response.content_type == "application/problem+json"
            assert response.headers["x-request-id"].startswith("req_")


async def test_a_request_for_openai_at_our_own_path_is_shown_the_way(serve):
    async with serve() as darkroom, aiohttp.ClientSession() as http:
        body = {"prompt": PROMPT, "n": 1, "size": "1024x1024"}
        async with http.post(f"{darkroom.url}/v1/images/generations", json=body) as response:
            problem = await response.json()
        async with http.post(f"{darkroom.url}/v1/images/generations", json={"prompt": PROMPT, "nn": 1}) as response:
            other = await response.json()

    assert (response.status, problem["code"], set(problem["fields"])) == (400, "invalid_request", {"n", "size"})
    assert f"{darkroom.url}/openai/v1" in problem["detail"]
    assert "openai" not in str(other)


async def test_a_picture_whose_file_is_lost_is_left_out(darkroom, monkeypatch):
    """The file of one of three pictures is missing, then that of the only one."""
    lost: list[str] = []
    get = FileMedia.get

    async def losing(self, key):
        if not lost:
            lost.append(key)
            return None
        return await get(self, key)

    monkeypatch.setattr(FileMedia, "get", losing)
    client = darkroom.client()

    assert len((await client.images.generate(prompt=PROMPT, size=SIZE, n=3)).data) == 2
    lost.clear()
    with pytest.raises(openai.InternalServerError) as raised:
        await client.images.generate(prompt=PROMPT, size=SIZE)
    assert raised.value.code == "file_lost"


async def test_an_answer_that_cannot_be_finished_is_broken_off(darkroom, monkeypatch):
    """The media fail after the first of two pictures is sent; the client must not take it for the whole answer."""
    keys: list[str] = []
    get = FileMedia.get

    async def failing(self, key):
        keys.append(key)
        if len(keys) == 2:
            raise Unavailable("media")
        return await get(self, key)

    monkeypatch.setattr(FileMedia, "get", failing)

    with pytest.raises(openai.APIConnectionError):
        await darkroom.client().images.generate(prompt=PROMPT, size=SIZE, n=2)
