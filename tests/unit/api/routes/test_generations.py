"""The answers to a request for an image that has ended without a picture."""

import asyncio
from functools import partial
from types import SimpleNamespace

import aiohttp
import jsonschema
import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.domain import transitions
from common.domain.images import Failure, Status
from common.media.connect import open_media
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
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
    settings = read_settings({"API_PORT": "0", "REQUESTS_PER_HOUR": "12", "WAITING_REQUESTS": "6"})
    async with (
        MemoryBus() as bus,
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=LIMIT_S) as store,
        open_media(str(tmp_path / "media")) as media,
        api_running(settings, Resources(bus, store, media, CLOCK)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def post(count=None, **headers):
            headers = {"Idempotency-Key": "key", **headers}
            body = ORDER if count is None else {**ORDER, "numImages": count}
            async with http.post(PATH, json=body, headers=headers) as response:
                return response.status, response.content_type, await response.json()

        async def document():
            async with http.get("/openapi.json") as response:
                return await response.json()

        yield SimpleNamespace(post=post, document=document, store=store, http=http)


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


DELETE = partial(transitions.delete, now=CLOCK.now())
CANCEL = partial(transitions.cancel, now=CLOCK.now())
REFUSED = Failure(code="inference_refused", detail="not this")


def end(image, kind):
    """The image after it has ended in this way."""
    if kind == "open":
        return image
    if kind == "completed":
        freed = {"slot": None, "waiting_since": None, "pending_event": None}
        return image.model_copy(update={"status": Status.COMPLETED, "revision": image.revision + 1, **freed})
    if kind == "failed":
        return transitions.fail(image, error=REFUSED, now=CLOCK.now())
    return (CANCEL if kind == "cancelled" else DELETE)(image)


async def end_all(api, images, kinds):
    for image, kind in zip(images, kinds, strict=True):
        await change(api.store, image["id"], partial(end, kind=kind))


@pytest.mark.parametrize(
    ("kinds", "status", "code", "first"),
    [
        (["completed", "completed", "completed"], 201, None, 0),
        (["failed", "completed", "cancelled"], 201, None, 0),
        (["deleted", "completed", "failed"], 201, None, 1),
        (["completed", "completed", "open"], 202, None, 0),
        (["deleted", "failed", "open"], 202, None, 1),
        (["cancelled", "failed", "failed"], 422, "inference_refused", 1),
        (["deleted", "cancelled", "deleted"], 409, "cancelled", 1),
        (["deleted", "deleted", "deleted"], 410, "image_deleted", None),
    ],
)
async def test_the_answer_of_a_batch_follows_from_its_images(api, kinds, status, code, first):
    """Three images are requested, end in these ways, and the request is repeated."""
    _, _, queued = await api.post(3, Prefer="respond-async")
    await end_all(api, queued["images"], kinds)

    found, _, answer = await api.post(3, Prefer="wait=0")

    assert (found, answer.get("code")) == (status, code)
    if first is None:
        return
    image = answer if code is None else answer["image"]
    shown = [each["id"] for each, kind in zip(queued["images"], kinds, strict=True) if kind != "deleted"]
    assert image["id"] == queued["images"][first]["id"]
    assert [each["id"] for each in answer["images"]] == shown


async def test_a_wait_for_a_batch_ends_with_its_last_image(api):
    _, _, queued = await api.post(3, Prefer="respond-async")
    waiting = asyncio.create_task(api.post(3))
    await end_all(api, queued["images"][:2], ["completed", "failed"])
    open_still = await api.post(3, Prefer="wait=1")
    assert not waiting.done()

    await end_all(api, queued["images"][2:], ["completed"])
    status, _, answer = await waiting

    assert (open_still[0], status) == (202, 201)
    assert [image["status"] for image in open_still[2]["images"]] == ["completed", "failed", "queued"]
    assert [image["status"] for image in answer["images"]] == ["completed", "failed", "completed"]


async def test_several_are_accepted_or_refused_as_a_whole(api):
    """Two slots, six places, twelve an hour: nine never fit, five do not fit beside seven, six not into the hour."""
    never = await api.post(9, Prefer="respond-async")
    accepted = await api.post(7, Prefer="respond-async")
    full = await api.post(5, Prefer="respond-async", **{"Idempotency-Key": "another"})
    await end_all(api, accepted[2]["images"], ["completed"] * 7)
    of_the_hour = await api.post(6, Prefer="respond-async", **{"Idempotency-Key": "another"})
    fits = await api.post(5, Prefer="respond-async", **{"Idempotency-Key": "another"})

    assert (never[0], never[2]["code"]) == (400, "too_many_images")
    assert (accepted[0], len(accepted[2]["images"])) == (202, 7)
    assert (full[0], full[2]["code"]) == (429, "waiting_limit")
    assert (of_the_hour[0], of_the_hour[2]["code"]) == (429, "hourly_limit")
    assert (fits[0], len(fits[2]["images"])) == (202, 5)
    assert len(await api.store.history("local", set(Status), limit=100)) == 12


async def test_a_repeat_completes_a_batch_whose_process_died(api):
    _, _, queued = await api.post(4, Prefer="respond-async")
    for image in queued["images"][2:]:
        await api.store.remove(await api.store.get(image["id"]))
    await change(
        api.store,
        queued["id"],
        lambda image: image.model_copy(update={"batch_due": image.created_at, "revision": image.revision + 1}),
    )

    status, _, answer = await api.post(4, Prefer="respond-async")

    assert status == 202
    assert [image["id"] for image in answer["images"]] == [image["id"] for image in queued["images"]]
    assert (await api.store.get(queued["id"])).batch_due is None


async def test_a_delete_of_the_first_completes_its_batch(api):
    """The process that was to insert the others has died; then the owner deletes the first image."""
    _, _, queued = await api.post(3, Prefer="respond-async")
    for image in queued["images"][1:]:
        await api.store.remove(await api.store.get(image["id"]))
    await change(
        api.store,
        queued["id"],
        lambda image: image.model_copy(update={"batch_due": image.created_at, "revision": image.revision + 1}),
    )

    async with api.http.delete(f"/api/images/{queued['id']}/") as response:
        assert response.status == 204

    members = await api.store.batch_members(queued["id"])
    assert [image.tombstoned_at is not None for image in members] == [True, False, False]
    assert [image.prompt for image in members] == ["", ORDER["prompt"], ORDER["prompt"]]
