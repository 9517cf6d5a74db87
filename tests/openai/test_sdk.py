"""The unmodified `openai` SDK against a real server."""

import asyncio
import base64
import json
from io import BytesIO

import aiohttp
import openai
import pytest
from PIL import Image

from services.generator.metadata import separate
from tests.inference_double import completed, picture, preview, status
from tests.openai.conftest import WITH_IDENTITY
from tests.security import callers

PROMPT = "a lighthouse at dusk"
SIZE = "128x64"
PREVIEW_PACE_S = 0.3  # progress is published four times a second


def opened(text: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(text)))


async def fetched(url: str, **headers: str) -> tuple[int, str, bytes]:
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status, response.content_type, await response.read()


async def test_a_picture_comes_as_base64_unless_a_url_is_asked_for(darkroom):
    found = await darkroom.client().images.generate(prompt=PROMPT, size=SIZE)

    assert [each.url for each in found.data] == [None]
    assert (opened(found.data[0].b64_json).size, opened(found.data[0].b64_json).format) == ((128, 64), "PNG")
    assert (found.size, found.output_format, found.usage.total_tokens) == (SIZE, "png", 0)
    assert found.created > 1_700_000_000
    assert found._request_id.startswith("req_")


async def test_the_synchronous_client_gets_the_same(darkroom):
    def generate():
        with darkroom.sync_client() as client:
            return client.images.generate(prompt=PROMPT, size=SIZE, model="sdxl", n=2)

    found = await asyncio.to_thread(generate)

    assert [opened(each.b64_json).size for each in found.data] == [(128, 64)] * 2


async def test_four_pictures_are_four_images_with_seeds_of_their_own(darkroom):
    found = await darkroom.client().images.generate(prompt=PROMPT, size=SIZE, n=4, extra_body={"seed": 2**32 - 2})

    assert len(found.data) == 4
    assert sorted(order["seed"] for order in darkroom.inference.orders) == [0, 1, 2**32 - 2, 2**32 - 1]
    assert len(await darkroom.history()) == 4


async def test_a_url_is_absolute_and_needs_no_header(darkroom):
    found = await darkroom.client().images.generate(prompt=PROMPT, size=SIZE, response_format="url")

    (each,) = found.data
    assert each.b64_json is None
    assert each.url.startswith(f"{darkroom.url}/media/generated_images/")
    assert (await fetched(each.url))[:2] == (200, "image/png")


async def test_a_url_is_signed_with_identity(serve):
    async with serve(**WITH_IDENTITY) as darkroom:
        token = callers.token()
        found = await darkroom.client(token=token).images.generate(
            prompt=PROMPT, size=SIZE, response_format="url", output_format="jpeg", output_compression=80
        )

        url = found.data[0].url
        assert "signature=" in url
        assert (await fetched(url))[:2] == (200, "image/jpeg")
        assert (await fetched(url, Authorization=f"Bearer {token}"))[:2] == (200, "image/jpeg")
        unsigned = url.partition("?")[0]
        assert (await fetched(unsigned))[0] == 401
        assert (await fetched(unsigned, Authorization=f"Bearer {token}"))[:2] == (200, "image/png")
        assert (await fetched(unsigned, Authorization=f"Bearer {callers.token('bob')}"))[0] == 404


async def test_a_picture_has_the_wanted_format(darkroom):
    """Whatever the inference service sends; the stored file has the pixels that it sent."""
    painted, asked, sent = "PNG", [], {}

    async def paint(request, order):
        asked.append(request.headers["Accept"].split(",")[0])
        sent[painted] = picture(painted, (order["width"], order["height"]))
        return aiohttp.web.Response(body=sent[painted])

    darkroom.inference.always(paint)
    client = darkroom.client()
    for painted in ("PNG", "JPEG", "WEBP"):
        for wanted in ("png", "jpeg", "webp"):
            found = await client.images.generate(prompt=PROMPT, size=SIZE, output_format=wanted)

            assert asked[-1] == f"image/{wanted}"
            shown = opened(found.data[0].b64_json)
            assert (shown.format, shown.size) == (wanted.upper(), (128, 64))
            stored = await fetched(darkroom.url + (await darkroom.history())[0]["imageUrl"])
            assert stored[1] == f"image/{painted.lower()}"
            assert Image.open(BytesIO(stored[2])).tobytes() == Image.open(BytesIO(sent[painted])).tobytes()


async def test_a_compressed_picture_is_smaller(darkroom):
    sizes = []
    for compression in (100, 10):
        found = await darkroom.client().images.generate(
            prompt=PROMPT, size=SIZE, output_format="jpeg", output_compression=compression
        )
        sizes.append(len(separate(base64.b64decode(found.data[0].b64_json)).pixels))

    assert sizes[1] < sizes[0] / 2


def event(name: str, data: dict) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def paint_with_previews(request, _order):
    """Three steps with a preview each, at the pace at which previews are published."""
    response = aiohttp.web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for step in (1, 2, 3):
        await response.write(event(*preview(picture(size=(64, 32)))) + event("progress", {"step": step, "steps": 3}))
        await asyncio.sleep(PREVIEW_PACE_S)
    await response.write(event(*completed(picture(size=(128, 64)))))
    return response


async def test_a_stream_sends_two_partial_images(darkroom, monkeypatch):
    """The inference service sends three previews; the client asked for two partial images."""
    monkeypatch.setattr("services.generator.progress.PREVIEW_PACE_S", 0.1)
    darkroom.inference.capabilities = {"models": [{"id": "sdxl"}]}
    darkroom.inference.always(paint_with_previews)
    stream = await darkroom.client().images.generate(prompt=PROMPT, size=SIZE, stream=True, partial_images=2)
    found = [event async for event in stream]

    assert [event.type for event in found] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [event.partial_image_index for event in found[:2]] == [0, 1]
    assert {opened(event.b64_json).format for event in found} == {"PNG"}
    assert {event.size for event in found} == {SIZE}
    assert opened(found[-1].b64_json).size == (128, 64)
    assert found[-1].usage.total_tokens == 0
    assert stream.response.headers["x-request-id"].startswith("req_")


async def test_a_failure_of_a_stream_is_an_error_event(darkroom):
    darkroom.inference.always(status(422, "no such thing"))
    stream = await darkroom.client().images.generate(prompt=PROMPT, size=SIZE, stream=True)

    with pytest.raises(openai.APIError, match="no such thing") as raised:
        [event async for event in stream]

    assert raised.value.body["code"] == "inference_refused"
    assert isinstance(raised.value.body, dict)
    assert set(raised.value.body) == {"message", "type", "param", "code"}


async def test_the_models_are_listed_with_their_aliases(serve):
    models = [{"id": "sdxl"}, {"id": "flux"}, {"id": "black/forest"}]
    async with serve(models, OPENAI_MODEL_ALIASES="dall-e-3=flux house=sdxl") as darkroom:
        client = darkroom.client()

        names = [model.id async for model in client.models.list()]
        assert names[:5] == ["sdxl", "flux", "black/forest", "dall-e-3", "house"]
        assert (await client.models.retrieve("black/forest")).id == "black/forest"
        assert (await client.models.retrieve("gpt-image-2.5-flare")).object == "model"
        for wanted in ("house", "dall-e-3", "gpt-image-2", "flux"):
            await client.images.generate(prompt=PROMPT, size=SIZE, model=wanted)
        with pytest.raises(openai.NotFoundError) as raised:
            await client.models.retrieve("nope")

    assert [order["model"] for order in darkroom.inference.orders] == ["sdxl", "flux", "sdxl", "flux"]
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


async def test_what_a_client_leaves_open_is_what_the_model_can(serve):
    turbo = {"id": "turbo", "samplers": ["LCM"], "max_steps": 4, "max_width": 512, "max_height": 300}
    async with serve([turbo]) as darkroom:
        client = darkroom.client()
        await client.images.generate(prompt=PROMPT)

        (order,) = darkroom.inference.orders
        chosen = {name: order[name] for name in ("model", "sampler", "steps", "width", "height")}
        assert chosen == {"model": "turbo", "sampler": "LCM", "steps": 4, "width": 512, "height": 296}
        for wrong, param in (({"size": "1024x64"}, "size"), ({"extra_body": {"sampler": "Euler"}}, "sampler")):
            with pytest.raises(openai.BadRequestError) as raised:
                await client.images.generate(prompt=PROMPT, **wrong)
            assert raised.value.param == param
