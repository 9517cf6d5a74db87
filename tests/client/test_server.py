"""Both clients with a real server."""

import asyncio
import inspect
from contextlib import aclosing
from io import BytesIO

import pytest
from PIL import Image

from darkroom_client import (
    AsyncDarkroom,
    AsyncHandle,
    Cancelled,
    Completed,
    Connected,
    Darkroom,
    Failed,
    Handle,
    ImageCancelled,
    ImageFailed,
    InvalidRequest,
    NotFound,
    OrderOptions,
    Queued,
    Started,
    StillWaiting,
    Unauthorized,
)
from tests.inference_double import status
from tests.security import callers

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL: OrderOptions = {"width": 64, "height": 64, "steps": 2}


async def test_a_picture_in_one_call(darkroom, tmp_path):
    image = await darkroom.generate("a lighthouse", seed=7, negative_prompt="rain", **SMALL)

    assert (image.status, image.prompt, image.parameters.seed, image.width) == ("completed", "a lighthouse", 7, 64)
    assert Image.open(BytesIO(await darkroom.download(image))).format == "PNG"
    assert Image.open(BytesIO(await darkroom.download(image.id, format="webp"))).format == "WEBP"
    saved = await darkroom.save(image, tmp_path / "picture.jpg", quality=80)
    assert Image.open(BytesIO(saved.read_bytes())).format == "JPEG"
    assert await darkroom.save(image, tmp_path) == tmp_path / f"{image.id}.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{image.id}.png", "picture.jpg"]


async def test_the_synchronous_client_does_the_same(cluster):
    def use() -> list[str]:
        with Darkroom(cluster.url, token=callers.token(), trust_env=False) as darkroom:
            handle = darkroom.submit("a lighthouse", num_images=2, **SMALL)
            kinds = [type(event).__name__ for event in handle.events() if event.is_final]
            assert [image.status for image in handle.get_all()] == ["completed"] * 2
            assert len(darkroom.download(handle.images[1])) > 100
            assert darkroom.get(handle.id).batch.count == 2
            assert {found.id for found in darkroom.history(batch=handle.id)} == {image.id for image in handle.images}
            listening = darkroom.listen()
            assert isinstance(next(listening), Connected)
            image = darkroom.generate("another", **SMALL)
            assert image.id in {event.image_id for event in (next(listening), next(listening))}
            listening.close()
            return kinds

    assert await asyncio.to_thread(use) == ["Completed", "Completed"]


async def test_events_of_a_handle_end_with_its_image(darkroom):
    handle = await darkroom.submit("a lighthouse", **SMALL)

    found = [event async for event in handle.events()]

    assert isinstance(found[0], Queued | Started)
    match found[-1]:
        case Completed(image=image):
            assert image == (await handle.get()).model_copy(update={"image_url": image.image_url})
        case other:
            raise AssertionError(other)
    assert [event.is_final for event in found].count(True) == 1
    assert [event async for event in (await darkroom.handle(handle.id)).events()] == [
        Completed(image_id=handle.id, image=await handle.status(), attempt=1)
    ]


async def test_a_batch_and_the_history(darkroom):
    images = await darkroom.generate_batch("three boats", 3, seed=10, **SMALL)

    assert [image.parameters.seed for image in images] == [10, 11, 12]
    found = [item async for item in darkroom.history(per_page=2)]
    assert {item.id for item in found[:3]} == {image.id for image in images}
    assert len({item.id for item in found}) == len(found)
    page = await darkroom.history_page(per_page=1, batch=images[0].id)
    assert (page.total, page.images[0].batch.id, page.next_cursor is None) == (3, images[0].id, False)
    assert (await darkroom.pin(images[0].id)).pinned
    await darkroom.delete(images[0].id, batch=True)
    with pytest.raises(NotFound) as caught:
        await darkroom.get(images[0].id)
    assert (caught.value.code, caught.value.status) == ("image_not_found", 404)


async def test_a_failure_carries_its_image(darkroom, inference):
    inference.will(status(422, "not this one"))

    with pytest.raises(ImageFailed) as caught:
        await darkroom.generate("a lighthouse", **SMALL)

    assert caught.value.code == "inference_refused"
    assert (caught.value.image.status, caught.value.image.error.code) == ("failed", "inference_refused")
    handle = await darkroom.handle(caught.value.image.id)
    assert [type(event) for event in [event async for event in handle.events()]] == [Failed]
    with pytest.raises(ImageFailed, match="inference_refused"):
        await handle.get()


async def test_cancel_says_whether_it_came_in_time(darkroom, inference):
    inference.will(inference.hold)
    handle = await darkroom.submit("a lighthouse", **SMALL)
    async with asyncio.timeout(10):
        await inference.held.wait()

    with pytest.raises(StillWaiting) as caught:
        await handle.get(timeout_s=0.2)
    assert caught.value.image.id == handle.id
    assert await handle.cancel()
    assert await handle.cancel()
    assert isinstance([event async for event in handle.events()][-1], Cancelled)
    with pytest.raises(ImageCancelled):
        await handle.get()
    inference.released.set()
    assert not await darkroom.cancel((await darkroom.generate("done", **SMALL)).id)


async def test_listen_resumes_from_a_cursor(darkroom):
    async with aclosing(darkroom.listen()) as listening:
        first = await anext(listening)
    assert isinstance(first, Connected)
    images = [await darkroom.generate("a lighthouse", **SMALL) for _ in range(3)]

    async with aclosing(darkroom.listen(after=first.cursor)) as listening:
        done: list[Completed] = []
        while len(done) < 3:
            if isinstance(event := await anext(listening), Completed):
                done.append(event)

    assert [event.image_id for event in done] == [image.id for image in images]
    async with aclosing(darkroom.listen(after=done[1].cursor)) as listening:
        while not isinstance(event := await anext(listening), Completed):
            pass
    assert event.image_id == images[2].id


async def test_a_key_makes_one_image_of_two_calls(darkroom):
    key = "one-click"

    image = await darkroom.generate("once", idempotency_key=key, **SMALL)
    assert (await darkroom.submit("once", idempotency_key=key, **SMALL)).id == image.id
    with pytest.raises(InvalidRequest) as caught:
        await darkroom.submit("twice", idempotency_key=key, **SMALL)
    assert (caught.value.status, caught.value.code) == (422, "idempotency_mismatch")


async def test_what_is_wrong_has_a_class_and_a_code(darkroom, cluster):
    with pytest.raises(InvalidRequest) as caught:
        await darkroom.generate("a lighthouse", width=65)
    assert caught.value.fields.keys() == {"width"}
    async with AsyncDarkroom(cluster.url, token="wrong", trust_env=False) as other:
        for call in (other.models(), other.generate("a lighthouse"), anext(other.listen())):
            with pytest.raises(Unauthorized):
                await call


async def test_models_and_limits(darkroom):
    assert (await darkroom.models()).models[0].id == "sdxl"
    assert (await darkroom.limits()).concurrent.limit == 0


@pytest.mark.parametrize(("sync", "other"), [(Darkroom, AsyncDarkroom), (Handle, AsyncHandle)])
async def test_both_clients_have_the_same_methods(sync, other):
    def methods(kind: type) -> dict[str, tuple[list[str], str | None]]:
        found = inspect.getmembers(kind, lambda member: inspect.isfunction(member) or isinstance(member, property))
        return {
            name: (list(inspect.signature(member).parameters) if callable(member) else [], inspect.getdoc(member))
            for name, member in found
            if not name.startswith("_")
        }

    def plain(text: str) -> str:
        return text.replace("Async", "")

    assert {name: (parameters, plain(doc or "")) for name, (parameters, doc) in methods(other).items()} == {
        name: (parameters, doc or "") for name, (parameters, doc) in methods(sync).items()
    }
