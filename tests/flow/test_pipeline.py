"""The main scenarios of a front end, in one process and as separate services."""

import asyncio
from contextlib import aclosing
from io import BytesIO

import pytest
from PIL import Image

from darkroom_client import Completed, Connected, OrderOptions, Progress, Queued, Started
from darkroom_client.events import ImageEvent
from tests.cluster import ORDER
from tests.media_folder import files_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL: OrderOptions = {"width": 64, "height": 64, "steps": 2}
PLAYGROUND_FIELDS = {
    "id",
    "prompt",
    "imageUrl",
    "thumbnailUrl",
    "width",
    "height",
    "parameters",
    "generationTime",
    "createdAt",
}


def files(cluster):
    return sorted(files_in(cluster.media))


async def test_the_life_of_an_image(cluster, page):
    """Request an image, fetch it, find it in the history, pin it, delete it: nothing of it is left."""
    status, image = await page.post("/v1/images/generations", ORDER | {"width": 320, "height": 192, "steps": 3})

    assert status == 201, image
    assert set(image) >= PLAYGROUND_FIELDS
    assert image["parameters"] == {"steps": 3, "cfgScale": 7.5, "sampler": "Euler", "seed": 7, "hiresFix": False}
    year, month = image["createdAt"][:4], image["createdAt"][5:7]
    assert image["imageUrl"] == f"/media/generated_images/{year}/{month}/{image['id']}.png"
    assert image["thumbnailUrl"] == f"/media/thumbnails/{year}/{month}/{image['id']}.png"

    content = await page.bytes(image["imageUrl"])
    assert len(content) == image["fileSize"]
    assert Image.open(BytesIO(content)).size == (320, 192)
    assert Image.open(BytesIO(await page.bytes(image["thumbnailUrl"]))).size == (256, 154)

    assert await page.get(f"/api/images/{image['id']}") == (200, image)
    _, history = await page.get("/api/images/history/?page=1&perPage=10")
    assert [item["id"] for item in history["images"]] == [image["id"]]
    assert (history["total"], history["nextCursor"]) == (1, None)  # it is the first image of this installation

    _, pinned = await page.ask("PATCH", f"/api/images/{image['id']}/", json={"pinned": True})
    assert (pinned["pinned"], pinned["expiresAt"]) == (True, None)

    assert (await page.ask("DELETE", f"/api/images/{image['id']}/"))[0] == 204
    assert (await page.get(f"/api/images/{image['id']}/"))[0] == 404
    assert (await page.get(image["imageUrl"]))[0] == 404
    assert (await page.get("/api/images/history"))[1]["total"] == 0
    assert files(cluster) == []


async def test_the_websocket_shows_each_step_in_order(page):
    async with page.socket() as events:
        assert events.hello["type"] == "hello"
        image = await page.order(steps=4)
        frames = await events.until_final(image["id"])

    types = [frame["type"] for frame in frames]
    assert types[:2] == ["image.queued", "image.started"]
    assert types[-1] == "image.completed"
    assert set(types[2:-1]) == {"image.progress"}
    revisions = [frame["revision"] for frame in frames]
    assert revisions == sorted(revisions)
    _, record = await page.get(f"/api/images/{image['id']}/")
    unqueued = {"queuePlace": None, "queuePlaceEstimated": False, "estimatedSeconds": None, "waitingFor": None}
    assert {**frames[-1]["data"], **unqueued} == record


async def test_a_reconnecting_client_gets_missed_events_once(darkroom):
    async with aclosing(darkroom.listen()) as events:
        assert isinstance(await anext(events), Connected)
        first = await darkroom.submit("the first", **SMALL)
        seen = await until_final(events, first.id)
    second = await darkroom.generate("the second", **SMALL)

    async with aclosing(darkroom.listen(after=seen[-1].cursor)) as events:
        missed = await until_final(events, second.id)

    assert [type(event) for event in missed if not isinstance(event, Progress)] == [Queued, Started, Completed]


async def until_final(events, image_id):
    """The events of one image up to its last."""
    found: list[ImageEvent] = []
    while not found or not found[-1].is_final:
        event = await anext(events)
        if isinstance(event, ImageEvent) and event.image_id == image_id:
            found.append(event)
    return found


async def test_an_unknown_cursor_is_answered_with_a_gap(page):
    image = await page.order()
    await page.final(image["id"])

    async with page.socket(after="999999:nobody:nothing") as events:
        assert events.hello["type"] == "gap"
        again = await page.order()
        assert (await events.until_final(again["id"]))[-1]["type"] == "image.completed"


async def test_cancel_stops_a_running_image(page):
    async with page.socket() as events:
        image = await page.order(steps=150, width=1024, height=1024)
        while (await events.next())["type"] != "image.progress":
            pass
        status, answer = await page.post(f"/api/images/{image['id']}/cancel/")
        frames = await events.until_final(image["id"])

    assert (status, answer) == (200, {"id": image["id"], "status": "cancelled", "was": "running"})
    assert frames[-1]["type"] == "image.cancelled"
    again = await page.post(f"/api/images/{image['id']}/cancel/")
    assert (again[0], again[1]["code"], again[1]["imageStatus"]) == (409, "already_final", "cancelled")


@pytest.mark.fault(row=48)
async def test_an_idempotency_key_makes_one_image_of_many_posts(cluster, page):
    key = {"Idempotency-Key": "the-same-click"}
    before = len(files(cluster))

    answers = await asyncio.gather(*(page.post("/v1/images/generations", ORDER, **key) for _ in range(5)))
    other = await page.post("/v1/images/generations", ORDER | {"steps": 3}, **key)

    assert {(status, image["id"]) for status, image in answers} == {(201, answers[0][1]["id"])}
    assert (other[0], other[1]["code"]) == (422, "idempotency_mismatch")
    assert len(files(cluster)) == before + 2


async def test_prefer_wait_answers_202_after_its_time(page):
    status, image = await page.post(
        "/v1/images/generations", ORDER | {"steps": 150, "width": 1024, "height": 1024}, Prefer="wait=0"
    )

    assert status == 202
    assert image["status"] in {"queued", "running"}
    await page.post(f"/api/images/{image['id']}/cancel/")


async def test_history_goes_through_all_pages_by_cursor(darkroom):
    before = await darkroom.history_page(per_page=1)
    images = [await darkroom.generate(f"number {number}", **SMALL) for number in range(7)]

    found = [item.id async for item in darkroom.history(per_page=3)]

    assert found[:7] == [image.id for image in reversed(images)]
    assert len(set(found)) == len(found) == before.total + 7


async def test_every_service_exits_with_0_on_sigterm(cluster, page):
    await page.post("/v1/images/generations", ORDER)

    statuses = {alias: await service.stop() for alias, service in cluster.services.items()}

    assert set(statuses.values()) == {0}, {alias: cluster.services[alias].log for alias in statuses if statuses[alias]}
