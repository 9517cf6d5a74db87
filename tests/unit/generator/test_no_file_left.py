"""A cancelled or deleted image leaves no file, whenever it ends: its writes end before anything is removed."""

import asyncio
import threading
from contextlib import suppress
from functools import partial

import pytest

from common.domain import images, transitions
from common.domain.errors import InvalidTransition
from common.domain.images import Format
from common.media.files import FileMedia
from common.store.port import change
from tests.inference_double import body
from tests.making import an_image
from tests.odd_pictures import encoded
from tests.unit.generator.test_generate import bench

pytestmark = pytest.mark.border(rule="B7")


def noise(megabytes: float) -> bytes:
    """A sound picture of this size: the bytes behind its end are written as well."""
    return encoded("PNG", None) + bytes(int(megabytes * 1_000_000))


class GatedMedia:
    """Media whose writes wait in their threads until the gate opens."""

    def __init__(self, media: FileMedia) -> None:
        self.gate, self.begun = threading.Event(), asyncio.Event()
        loop, real = asyncio.get_running_loop(), media._put

        def put(file, content):
            loop.call_soon_threadsafe(self.begun.set)
            self.gate.wait(20)
            real(file, content)

        media._put = put  # type: ignore[method-assign]  # the port has no hook inside of its thread


async def cancel(made, image_id):
    cancelled = await change(made.store, image_id, partial(transitions.cancel, now=made.clock.now()))
    await made.outbox.publish_pending(cancelled)


async def delete(made, image_id):
    """As the api does it: the files are removed at once, while the generator may be writing them."""
    deleted = await change(made.store, image_id, partial(transitions.delete, now=made.clock.now()))
    await made.outbox.publish_pending(deleted)
    await made.media.remove(images.media_keys(deleted))
    await change(made.store, image_id, partial(transitions.tombstone, now=made.clock.now()))


async def lose_lease(made, image_id):
    """Another worker took it over, and nobody publishes that."""
    await change(
        made.store, image_id, lambda image: transitions.expire_lease(image, lease=image.lease, now=made.clock.now())
    )


async def pass_deadline(made, image_id):
    """The janitor fails it, whoever holds it."""
    failed = await change(made.store, image_id, partial(transitions.fail_past_deadline, now=made.clock.now()))
    await made.outbox.publish_pending(failed)


async def forget(made, image_id):
    """Another store is put in place of this one, or an operator removes the record."""
    assert await made.store.remove(await made.store.get(image_id))


async def stop(made, _image_id):
    made.stopping.set()


@pytest.mark.parametrize("end", [cancel, delete, lose_lease, pass_deadline, forget, stop], ids=lambda end: end.__name__)
async def test_an_image_that_ends_during_its_writes_leaves_no_file(tmp_path, end):
    async with bench(tmp_path, LEASE="0.6", GRACE_PERIOD="0.1") as made:
        gated = GatedMedia(made.media)
        made.inference.will(body(encoded()))
        image_id = await made.order(width=64, height=48)
        await gated.begun.wait()

        await end(made, image_id)
        await asyncio.sleep(0.3)  # the abort, the renewal or the end of the grace period comes meanwhile
        gated.gate.set()
        made.stopping.set()
        await made.task

        record = await made.store.get(image_id)
        assert record is None or record.image_file is None
        assert made.files() == []


async def test_images_that_are_cancelled_at_any_moment_leave_no_file(tmp_path):
    async with bench(tmp_path, GENERATOR_CONCURRENCY="4") as made:
        made.inference.always(body(noise(4)))
        for number in range(40):
            image_id = await made.order(width=64, height=48)
            await made.events(image_id, "started")
            await asyncio.sleep(number % 10 * 0.005)
            with suppress(InvalidTransition):  # it was completed first
                await (cancel if number % 2 else delete)(made, image_id)
        made.stopping.set()
        await made.task

        kept = set()
        for file in made.files():
            record = await made.store.get(file.rpartition("/")[2][:36])
            assert record.status == "completed", file
            assert record.deleted_at is None, file
            kept.add(file)
        assert all(".part" not in file for file in kept)


async def test_a_cancelled_put_has_ended_its_write(tmp_path):
    """Many cancels at many moments of a write of 4 MB: what is there when `put` ends does not change later."""
    content = noise(4)
    async with FileMedia.open(tmp_path / "media") as media:
        for number in range(60):
            key = images.image_key(an_image(), Format.PNG)
            writing = asyncio.create_task(media.put(key, content))
            await asyncio.sleep(number % 12 * 0.001)
            writing.cancel()
            if number % 3 == 0:
                await asyncio.sleep(0)
                writing.cancel()  # once more, as a stop during an abort does
            await asyncio.wait([writing])
            await media.remove([key])

            assert not [path for path in (tmp_path / "media").rglob("*.*") if path.is_file()]
