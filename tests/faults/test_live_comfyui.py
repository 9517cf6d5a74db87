"""A real ComfyUI whose generators are killed; `make test-engines COMFYUI=http://…` runs it.

TEST_ENGINE_KILLS says how often (5). Nobody else may use the server meanwhile.
"""

import os

import aiohttp
import pytest

from tests.cluster import FrontEnd
from tests.faults.checker import check, until_quiet
from tests.faults.follower import following
from tests.faults.test_comfyui import FAST

PREFIX = "comfyui+"
URLS = [url for url in os.environ.get("TEST_ENGINES", "").split() if url.startswith(PREFIX)]
KILLS = int(os.environ.get("TEST_ENGINE_KILLS", "5"))
SIDE = int(os.environ.get("TEST_ENGINE_SIDE", "256"))
PAINTED_S = 300


async def runs(http: aiohttp.ClientSession, url: str) -> dict[str, str]:
    """Each run that the server remembers, with how it ended."""
    async with http.get(f"{url.removeprefix(PREFIX)}/history") as answer:
        return {key: run["status"]["status_str"] for key, run in (await answer.json()).items()}


async def first_model(page: FrontEnd) -> str:
    _, models = await page.get("/api/models/")
    return os.environ.get("TEST_ENGINE_MODEL") or models["models"][0]["id"]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.timeout(3600)
async def test_each_image_of_killed_generators_is_painted_once(cluster, http, url):
    """The generator is killed after the first step; the next one takes over the run that goes on meanwhile."""
    for name in ("api", "janitor", "generator"):
        await cluster.add_service(name, **{**FAST, "INFERENCE_TIMEOUT": str(PAINTED_S)})
    generator = cluster.services["generator"]
    generator.env["INFERENCE_SERVICE_URL"] = url
    await cluster.start("api", "janitor", "generator")
    page = FrontEnd(http, cluster.urls["api"])
    model, before, accepted = await first_model(page), await runs(http, url), []

    async with following(http, [page.url]) as follower:
        for number in range(KILLS):
            async with page.socket() as events:
                order = {"model": model, "width": SIDE, "height": SIDE, "steps": 20, "seed": number}
                image_id = (await page.order(**order))["id"]
                while (await events.next(PAINTED_S))["type"] != "image.progress":
                    pass
            await generator.kill()
            await cluster.restart("generator")
            image = await page.final(image_id, PAINTED_S)
            assert (image["status"], image["attempts"]) == ("completed", 2)
            assert "taken over" in generator.log
            accepted.append(image_id)
        await until_quiet(cluster.direct_settings)
        found = await check(cluster.direct_settings, accepted=accepted, shown=follower.shown)

    new = {key: status for key, status in (await runs(http, url)).items() if key not in before}
    assert found.violations == []
    assert list(new.values()) == ["success"] * KILLS
