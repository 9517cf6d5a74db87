"""Requests for several images, over HTTP, by command and by the command line."""

import asyncio
from contextlib import asynccontextmanager
from io import BytesIO

import pytest
from PIL import Image

from services.cli.main import main
from tests.cluster import ORDER

pytestmark = pytest.mark.asyncio(loop_scope="module")
POST = "/v1/images/generations"
MAX_SEED = 2**32 - 1


@asynccontextmanager
async def many(page, count=4, **fields):
    """The answer to a request for several images that waits for none."""
    status, answer = await page.post(POST, {**ORDER, "numImages": count, **fields}, Prefer="respond-async")
    assert status == 202, answer
    yield answer
    await page.ask("DELETE", f"/api/images/{answer['id']}/?batch=true")


def ids(answer):
    return [image["id"] for image in answer["images"]]


async def test_the_life_of_a_batch(page):
    """Four images are requested with a key: the answer, a repeat, events, the history, single and whole deletes."""
    body, key = {**ORDER, "num_images": 4, "seed": MAX_SEED - 1}, {"Idempotency-Key": "a-batch"}
    async with page.socket() as events:
        status, answer = await page.post(POST, body, **key)
        last = (await events.until_final(answer["images"][3]["id"]))[-1]
    again = await page.post(POST, body, **key)
    other = await page.post(POST, {**body, "num_images": 3}, **key)

    assert status == 201
    images = answer["images"]
    assert {**images[0], "images": images} == answer
    assert [image["parameters"]["seed"] for image in images] == [MAX_SEED - 1, MAX_SEED, 0, 1]
    assert [image["batch"] for image in images] == [{"id": answer["id"], "index": n, "count": 4} for n in range(4)]
    assert {image["status"] for image in images} == {"completed"}
    assert len(set(ids(answer))) == len({image["imageUrl"] for image in images}) == 4
    assert again == (201, answer)
    assert (other[0], other[1]["code"]) == (422, "idempotency_mismatch")
    assert (last["type"], last["data"]["batch"]) == ("image.completed", images[3]["batch"])
    assert await page.get(f"/api/images/{ids(answer)[2]}/") == (200, images[2])

    _, history = await page.get(f"/api/images/history/?batch={answer['id'].upper()}&perPage=3")
    _, rest = await page.get(f"/api/images/history/?batch={answer['id']}&perPage=3&cursor={history['nextCursor']}")
    assert [item["id"] for item in [*history["images"], *rest["images"]]] == ids(answer)[::-1]
    assert (history["total"], rest["nextCursor"]) == (4, None)
    assert [item["batch"]["index"] for item in history["images"]] == [3, 2, 1]

    assert (await page.ask("DELETE", f"/api/images/{answer['id']}/"))[0] == 204
    without_first = await page.post(POST, body, **key)
    assert (without_first[0], ids(without_first[1])) == (201, ids(answer)[1:])
    assert (await page.ask("DELETE", f"/api/images/{answer['id']}/?batch=true"))[0] == 204
    assert (await page.post(POST, body, **key))[1]["code"] == "image_deleted"
    assert (await page.ask("DELETE", f"/api/images/{ids(answer)[1]}/?batch=true"))[0] == 404


async def test_one_image_has_no_batch(page):
    status, image = await page.post(POST, {**ORDER, "numImages": 1})

    assert status == 201
    assert not {"batch", "images"} & image.keys()
    _, history = await page.get("/api/images/history/?perPage=1")
    assert "batch" not in history["images"][0]
    assert (await page.ask("DELETE", f"/api/images/{image['id']}/?batch=true"))[0] == 204


async def test_a_cancel_of_one_and_of_all(page):
    """Ten slow images: the second is cancelled alone, then all; each ends with one event."""
    async with page.socket() as events, many(page, 10, steps=150, width=1024, height=1024) as answer:
        one = await page.post(f"/api/images/{ids(answer)[1]}/cancel/")
        rest = await page.post(f"/api/images/{ids(answer)[1]}/cancel/?batch=true")
        late = await page.post(f"/api/images/{ids(answer)[0]}/cancel/?batch=true")
        ends = [(await page.final(image_id))["status"] for image_id in ids(answer)]
        frames = await events.until_final(ids(answer)[0])

    assert (one[0], one[1]["id"], "images" in one[1]) == (200, ids(answer)[1], False)
    assert rest[0] == 200
    assert [each["id"] for each in rest[1]["images"]] == [ids(answer)[0], *ids(answer)[2:]]
    assert {**rest[1]["images"][0], "images": rest[1]["images"]} == rest[1]
    assert (late[0], late[1]["code"], late[1]["imageStatus"]) == (409, "already_final", "cancelled")
    assert ends == ["cancelled"] * 10
    assert frames[-1]["type"] == "image.cancelled"


async def test_a_batch_whose_images_all_end_without_a_picture(page):
    async with many(page, 3, steps=150, width=1024, height=1024) as answer:
        await page.post(f"/api/images/{answer['id']}/cancel/?batch=true")
        status, problem = await page.get(f"/api/images/{answer['id']}/")

    assert (status, problem["status"], problem["batch"]["count"]) == (200, "cancelled", 3)


@pytest.mark.parametrize("count", [0, 11, 2.5, "2", True, None])
async def test_a_number_of_images_that_is_not_allowed(page, count):
    status, problem = await page.post(POST, {**ORDER, "numImages": count})

    assert (status, problem["code"], list(problem["fields"])) == (400, "invalid_request", ["numImages"])


@pytest.mark.parametrize("query", ["batch=0", "batch=not-an-id", "batch="])
async def test_a_history_of_what_is_no_batch(page, query):
    assert (await page.get(f"/api/images/history/?{query}"))[0] == 400


async def test_the_command_line_writes_each_image(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["generate", "a lighthouse", "--url", page.url, "--width", "64", "--height", "64", "--steps", "2"]

    status = await asyncio.to_thread(main, [*arguments, "--num-images", "3", "-o", "light.house.png"])
    unnamed = await asyncio.to_thread(main, [*arguments, "--num-images", "2"])

    assert (status, unnamed) == (0, 0)
    printed = capsys.readouterr().out.split()
    assert printed[:3] == ["light.house-0.png", "light.house-1.png", "light.house-2.png"]
    assert [name[36:] for name in printed[3:]] == ["-0.png", "-1.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(printed)
    pictures = {(tmp_path / name).read_bytes() for name in printed}
    assert len(pictures) == 5
    assert {Image.open(BytesIO(picture)).size for picture in pictures} == {(64, 64)}
