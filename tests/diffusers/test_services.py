"""All of Darkroom with the real engine, which is a process of its own beside `darkroom up`."""

import base64
import json
from io import BytesIO

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image

from tests.cluster import Cluster, answers, front_end
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
POST = "/v1/images/generations"
MODELS = ("sd", "sdxl", "flux", "sd-file", "sdxl-file", "flux-file")
LIMIT_S = 300.0  # two shared cores


def order(model, **fields):
    return {"prompt": "a lighthouse", "model": model, "width": 64, "height": 64, "steps": 5, "seed": 7, **fields}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(folder, LEASE="30", ANNOUNCE_INTERVAL="1", RETRY_DELAYS="1,1,1", INFERENCE_TIMEOUT="300")
    cluster.settings["INFERENCE_SERVICE_URL"] = f"http://127.0.0.1:{cluster.inference_port}"
    # Processes of their own: torch starts threads, which a fork would lose.
    cluster.add("inference", INFERENCE_ENGINE="diffusers", MODELS=str(models), MODELS_LOADED="2").forked = False
    cluster.add("up").forked = False
    ready_url = f"http://127.0.0.1:{cluster.inference_port}/healthz"
    try:
        await cluster.services["inference"].start()
        async with aiohttp.ClientSession() as http:  # importing torch has taken more than a minute beside other work
            await until(lambda: answers(http, ready_url), limit_s=LIMIT_S)
        await cluster.start("up")
        yield cluster
    finally:
        await cluster.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def page(cluster):
    async with front_end(cluster.url) as page:
        await until(lambda: announced(page), limit_s=LIMIT_S)
        yield page


async def announced(page):
    status, answer = await page.get("/api/models/")
    return status == 200 and {model["id"] for model in answer["models"]} == set(MODELS)


async def painted(page, body):
    """The finished image of an order."""
    status, image = await page.post(POST, body, Prefer="respond-async")
    assert status == 202, image
    image = await page.final(image["id"], LIMIT_S)
    assert image["status"] == "completed", image
    return image


@pytest.mark.parametrize("model", MODELS)
async def test_an_order_is_painted_step_by_step(page, model):
    async with page.socket() as events:
        image = await page.order(**order(model, width=128, height=64))
        frames = await events.until_final(image["id"], LIMIT_S)

    assert frames[-1]["type"] == "image.completed", frames[-1]
    steps = [frame["data"]["step"] for frame in frames if frame["type"] == "image.progress"]
    assert steps == sorted(steps)
    assert {frame["data"]["steps"] for frame in frames if frame["type"] == "image.progress"} <= {5}
    _, finished = await page.get(f"/api/images/{image['id']}/")
    with Image.open(BytesIO(await page.bytes(finished["imageUrl"]))) as picture:
        assert picture.size == (128, 64)


async def test_the_same_seed_makes_the_same_bytes(page):
    first, again, other = [await painted(page, order("sd", seed=seed)) for seed in (11, 11, 12)]

    pictures = [await page.bytes(image["imageUrl"]) for image in (first, again, other)]
    assert pictures[0] == pictures[1] != pictures[2]


async def test_a_batch_has_a_seed_for_each_picture(page):
    """Three pictures with seeds 5, 6 and 7; each is the one that its seed makes alone."""
    status, answer = await page.post(POST, order("sdxl", seed=5, numImages=3), Prefer="respond-async")
    assert status == 202, answer
    images = [await page.final(image["id"], LIMIT_S) for image in answer["images"]]

    assert [image["parameters"]["seed"] for image in images] == [5, 6, 7]
    pictures = [await page.bytes(image["imageUrl"]) for image in images]
    assert len(set(pictures)) == 3
    single = await painted(page, order("sdxl", seed=6))
    assert await page.bytes(single["imageUrl"]) == pictures[1]


async def test_previews_reach_the_browser(page):
    async with page.socket() as events:
        image = await page.order(**order("sd", width=256, height=128, steps=150))
        frames = await events.until_final(image["id"], LIMIT_S)

    previews = [frame["data"]["preview"] for frame in frames if frame["data"].get("preview")]
    assert previews
    with Image.open(BytesIO(base64.b64decode(previews[0].partition(",")[2]))) as preview:
        assert preview.size == (256, 128)


async def test_hires_fix_is_two_passes(page):
    async with page.socket() as events:
        image = await page.order(**order("sd", width=128, height=128, steps=4, hires_fix=True))
        frames = await events.until_final(image["id"], LIMIT_S)

    assert frames[-1]["type"] == "image.completed", frames[-1]
    assert {frame["data"]["steps"] for frame in frames if frame["type"] == "image.progress"} <= {6}


async def test_cancel_stops_the_painting_between_two_steps(cluster, page):
    async with page.socket() as events:
        image = await page.order(**order("sd", width=512, height=512, steps=150))
        while (frame := await events.next(LIMIT_S))["type"] != "image.progress" or frame["subject"] != image["id"]:
            pass
        assert (await page.post(f"/api/images/{image['id']}/cancel/"))[0] == 200
        frames = await events.until_final(image["id"], LIMIT_S)

    assert frames[-1]["type"] == "image.cancelled"
    await until(lambda: "stopped at step" in cluster.services["inference"].log, limit_s=LIMIT_S)
    await painted(page, order("sd"))


async def test_a_closed_connection_stops_the_painting(cluster):
    url = f"http://127.0.0.1:{cluster.inference_port}"
    before = cluster.services["inference"].log_file.read_text().count("stopped at step")
    body = order("sd", width=512, height=512, steps=150)
    async with aiohttp.ClientSession() as http:
        headers = {"Accept": "text/event-stream"}
        async with http.post(f"{url}/inference/images/generations", json=body, headers=headers) as answer:
            await answer.content.readuntil(b"\n\n")

    log = cluster.services["inference"].log_file
    await until(lambda: log.read_text().count("stopped at step") > before, limit_s=LIMIT_S)


@pytest.mark.parametrize(
    ("field", "value"),
    [("sampler", "No such sampler"), ("model", "nothing"), ("width", 72), ("negative_prompt", "blurry")],
)
async def test_what_a_model_cannot_do_is_refused_by_name(page, field, value):
    status, problem = await page.post(POST, {**order("flux"), field: value})

    assert status == 400, problem
    assert field in json.dumps(problem)


async def test_the_log_says_what_is_loaded(cluster):
    log = cluster.services["inference"].log_file.read_text()

    for text in ("importing torch and diffusers", "loading model sd (sd) on", "loaded model sd,", "released model"):
        assert text in log


async def test_health_names_the_engine(cluster):
    url = f"http://127.0.0.1:{cluster.inference_port}/healthz"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        found = await answer.json()

    assert (found["status"], found["engine"], found["loading"]) == ("ok", "diffusers", [])
