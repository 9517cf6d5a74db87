"""A generator whose store or disk fails at the worst moment, or whose clock is wrong."""

import asyncio
from datetime import timedelta

import pytest

from common.application.resources import Resources
from common.domain import images, transitions
from common.domain.errors import InvalidTransition, Misconfigured, Unavailable
from common.domain.images import Failure, Lease, Picture
from common.media.files import FileMedia
from common.messages import GenerateImage
from common.runtime.clock import ManualClock
from services.generator import context as generation_context
from services.generator.backends.configured import backends_at
from services.generator.inference.native.backend import _idempotency_key
from services.generator.worker import run_generator
from tests.inference_double import paint
from tests.making import a_job, an_image
from tests.unit.generator.test_generate import bench


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(generation_context, "STORE_PAUSE_S", 0.01)


class Failing:
    """Wraps a port: calls of `method` raise Unavailable, either after or instead of the real call."""

    def __init__(self, port, method: str, *, applied: list[bool]) -> None:
        self._port = port
        self._method = method
        self._applied = applied

    def __getattr__(self, name):
        made = getattr(self._port, name)
        if name != self._method or not self._applied:
            return made

        async def call(*arguments):
            if not self._applied:
                return await made(*arguments)
            if self._applied.pop(0):
                await made(*arguments)
            raise Unavailable("store", "its answer was lost")

        return call


@pytest.mark.fault(row=42)
@pytest.mark.parametrize("applied", [[True] * 6, [False] * 6, [True, False] * 6], ids=["applied", "not", "either"])
async def test_a_write_with_a_lost_answer_is_applied_once(tmp_path, applied):
    left = list(applied)

    async with bench(tmp_path, seen_by_worker=lambda port: Failing(port, "replace", applied=left)) as made:
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.failures, image.lost) == ("completed", 1, 0, 0)
        assert left == []
        assert len(made.inference.keys) == 1
        assert len(made.files()) == 2


@pytest.mark.fault(row=43)
async def test_a_write_cancelled_midway_is_read_before_acting(tmp_path):
    """The write is applied although its task is cancelled: the image is not given back, since it is completed."""

    class Slow(Failing):
        def __getattr__(self, name):
            found = getattr(self._port, name)
            if name != "replace":
                return found

            async def call(image):
                writing = asyncio.ensure_future(found(image))
                if image.status == "completed" and image.pending_event:
                    begun.set()
                    await asyncio.shield(writing)
                    await asyncio.Event().wait()  # it never returns
                return await writing

            return call

    begun = asyncio.Event()
    async with bench(
        tmp_path, seen_by_worker=lambda port: Slow(port, "replace", applied=[]), GRACE_PERIOD="0.1"
    ) as made:
        image_id = await made.order()
        await begun.wait()

        made.stopping.set()
        await made.task

        image = await made.store.get(image_id)
        assert (image.status, image.attempts, image.pending_event.type) == ("completed", 1, "image.completed")
        assert made.files() == [image.image_file, image.thumbnail]


@pytest.mark.fault(row=45)
async def test_a_full_disk_fails_no_image_and_leaves_no_file(tmp_path):
    full = [False, False, False]  # both files of one attempt, then one of the next

    async with bench(tmp_path, seen_by_worker=lambda port: Failing(port, "put", applied=full)) as made:
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.failures) == ("completed", 3, 0)
        assert made.files() == [image.image_file, image.thumbnail]


@pytest.mark.fault(row=46)
async def test_unwritable_media_stop_the_start(tmp_path):
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(Misconfigured, match="MEDIA_ROOT"):
        async with FileMedia.open(tmp_path / "file" / "media"):
            pass


@pytest.mark.fault(row=26)
async def test_only_one_of_two_generators_paints_an_image(tmp_path):
    async with bench(tmp_path) as made, asyncio.TaskGroup() as group:
        made.inference.always(made.inference.hold)
        stopping = asyncio.Event()
        group.create_task(
            run_generator(
                made.settings,
                Resources(made.bus, made.store, made.media, made.clock),
                backends=backends_at([made.inference.url], made.settings),
                stopping=stopping,
            )
        )
        image = an_image(created_at=made.clock.now())
        await made.store.insert(image)
        command = GenerateImage(id=image.id, source="api", subject=image.id, time=made.clock.now())
        await asyncio.gather(*(made.bus.send(command) for _ in range(4)))
        await made.inference.held.wait()
        made.inference.always(paint)
        made.inference.released.set()

        done = await made.final(image.id)

        assert (done.status, done.attempts) == ("completed", 1)
        assert made.inference.keys == [image.id]
        stopping.set()


@pytest.mark.fault(row=17)
def test_a_worker_ahead_takes_over_at_most_once():
    """A worker whose clock is fast takes over too early; then the result of the first worker is refused."""
    clock, ahead = ManualClock(), ManualClock()
    ahead.advance(3600)
    image = an_image(created_at=clock.now())
    deadline = timedelta(minutes=15)

    def lease(by: ManualClock, token: str) -> Lease:
        return Lease(token=token, worker=token, until=by.now() + timedelta(seconds=30))

    first = transitions.claim(image, lease=lease(clock, "right"), now=clock.now(), deadline=deadline)
    second = transitions.claim(first, lease=lease(ahead, "ahead"), now=ahead.now(), deadline=deadline)

    with pytest.raises(InvalidTransition, match="is lost"):
        transitions.complete(second, lease=lease(clock, "right"), attempt=1, picture=a_picture(first), now=clock.now())
    with pytest.raises(InvalidTransition, match="held by"):  # and the first worker cannot take it back
        transitions.claim(second, lease=lease(clock, "right"), now=clock.now(), deadline=deadline)
    done = transitions.complete(
        second, lease=lease(ahead, "ahead"), attempt=2, picture=a_picture(second), now=ahead.now()
    )
    assert (done.status, done.attempts, done.lost) == ("completed", 2, 1)


def a_picture(image) -> Picture:
    image_format = images.Format.PNG
    return Picture(
        image_file=images.image_key(image, image_format),
        thumbnail=images.thumbnail_key(image, image_format),
        format=image_format,
        file_size=1,
        width=64,
        height=64,
        generation_time=1,
    )


def test_all_tries_after_a_bad_picture_share_one_key():
    """If a worker dies with the second picture, the service must not paint a third one."""
    bad = Failure(code="bad_image", detail="html")

    counted = [_idempotency_key(a_job(id="i", refused=refused, attempts=n)) for n, refused in enumerate((0, 1, 1), 1)]
    of_old_record = _idempotency_key(a_job(id="i", error=bad, attempts=2))

    assert (counted, of_old_record) == (["i", "i-2", "i-2"], "i-2")
