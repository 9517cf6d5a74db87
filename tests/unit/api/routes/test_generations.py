"""The answers to a request for an image that has ended without a picture."""

from functools import partial
from types import SimpleNamespace

import aiohttp
import jsonschema
import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.domain import transitions
from common.domain.images import Failure
from common.media.connect import open_media
from common.runtime.clock import SystemClock
from common.runtime.settings import read_settings
from common.store.port import change
from common.store.sqlite import SqliteStore
from services.api.service import api_running
from tests.cluster import ORDER

CLOCK = SystemClock()
LIMIT_S = 5
PATH = "/v1/images/generations"


@pytest.fixture
async def api(tmp_path):
    """An api without a generator; `post` sends the same request each time."""
    settings = read_settings({"API_PORT": "0"})
    async with (
        MemoryBus() as bus,
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=LIMIT_S) as store,
        open_media(str(tmp_path / "media")) as media,
        api_running(settings, Resources(bus, store, media, CLOCK)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def post(**headers):
            headers = {"Idempotency-Key": "key", **headers}
            async with http.post(PATH, json=ORDER, headers=headers) as response:
                return response.status, response.content_type, await response.json()

        async def document():
            async with http.get("/openapi.json") as response:
                return await response.json()

        yield SimpleNamespace(post=post, document=document, store=store)


@pytest.mark.parametrize(
    ("code", "status"), [("inference_refused", 422), ("inference_failed", 502), ("worker_lost", 502), ("deadline", 504)]
)
async def test_a_failed_image_is_a_problem_with_its_record(api, code, status):
    """An image fails, then the request is repeated with its Idempotency-Key."""
    _, _, queued = await api.post(Prefer="respond-async")
    failure = Failure(code=code, detail="it has failed")
    await change(api.store, queued["id"], partial(transitions.fail, error=failure, now=CLOCK.now()))

    found, content_type, problem = await api.post()

    assert (found, content_type) == (status, "application/problem+json")
    assert (problem["status"], problem["code"], problem["detail"]) == (status, code, "it has failed")
    assert problem["error"] == {"code": code, "detail": "it has failed"} == problem["image"]["error"]
    assert (problem["image"]["id"], problem["image"]["status"]) == (queued["id"], "failed")
    schema = {"$ref": "#/components/schemas/FailedProblem", **await api.document()}
    jsonschema.Draft202012Validator(schema).validate(problem)


async def test_a_cancelled_image_is_a_conflict_with_its_record(api):
    _, _, queued = await api.post(Prefer="respond-async")
    await change(api.store, queued["id"], partial(transitions.cancel, now=CLOCK.now()))

    found, _, problem = await api.post()

    assert (found, problem["code"], problem["image"]["status"]) == (409, "cancelled", "cancelled")


async def test_a_repeated_request_gets_the_image_of_the_first(api):
    first, second = [await api.post(Prefer="respond-async") for _ in range(2)]

    assert (first[0], second[0]) == (202, 202)
    assert first[2]["id"] == second[2]["id"]
