"""Commands through a real generator, bus and store: every row of the table of failures."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.bus.port import Since, WorkQueue
from common.domain import transitions
from common.domain.images import Status, new_image_id
from common.domain.requests import GenerationRequest
from common.media.files import FileMedia
from common.messages import GenerateImage
from common.runtime.clock import SystemClock
from common.runtime.reading_settings import read_settings
from common.store.port import change
from common.store.sqlite import SqliteStore
from services.generator.backends.configured import backends_at
from services.generator.worker import run_generator
from tests.inference_double import Inference, body, completed, events, inference_double, picture, status
from tests.making import an_image, an_outbox

FAST = {"RETRY_DELAYS": "0.05", "CIRCUIT_PAUSE": "0.05", "LEASE": "3", "GRACE_PERIOD": "0.2"}


class GeneratorBench:
    """A running generator with an inference double, and the ports that it uses."""

    def __init__(self, tmp_path, *, bus, store, media, inference: Inference | None, settings, clock) -> None:
        self.bus, self.store, self.media, self.inference = bus, store, media, inference
        self.settings, self.clock = settings, clock
        self.stopping = asyncio.Event()
        self.media_root = tmp_path / "media"
        self.task: asyncio.Task | None = None
        self.outbox = an_outbox(bus, store, clock, source="api")

    async def order(self, **fields):
        image = an_image(created_at=self.clock.now(), **fields)
        await self.store.insert(image)
        await self.outbox.dispatch(image)
        return image.id

    async def events(self, image_id, *last):
        """The types of an image's events, up to one of `last`."""
        found = []
        async for entry in self.bus.read(Since(self.clock.now() - timedelta(hours=1))):
            if entry.event.subject == image_id:
                found.append(entry.event)
                if entry.event.type.removeprefix("image.") in last:
                    return found
        return found

    async def final(self, image_id):
        await self.events(image_id, "completed", "failed", "cancelled")
        return await self.store.get(image_id)

    def files(self):
        """The keys of the files, without what Darkroom notes about the folder."""
        found = [path for path in self.media_root.rglob("*.*") if path.is_file()]
        return sorted(str(path.relative_to(self.media_root)) for path in found if not path.name.startswith("."))


@asynccontextmanager
async def bench(tmp_path, *, seen_by_worker=lambda port: port, inference_url="", backends=(), **more):
    """A generator with these URLs or back ends, or with an inference double.

    `seen_by_worker` may wrap its store and its media.
    """
    settings, clock = read_settings(FAST | more), SystemClock()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        MemoryBus(name="test", clock=clock, log_size=1000, retry_delays=settings.retry_delays) as bus,
        inference_double() as inference,
        FileMedia.open(tmp_path / "media") as media,
        asyncio.TaskGroup() as group,
    ):
        made = GeneratorBench(
            tmp_path, bus=bus, store=store, media=media, inference=inference, settings=settings, clock=clock
        )
        made.task = group.create_task(
            run_generator(
                settings,
                Resources(bus, seen_by_worker(store), seen_by_worker(media), clock),
                backends=backends or backends_at((inference_url or inference.url).split(), settings),
                stopping=made.stopping,
            )
        )
        yield made
        made.stopping.set()


async def test_a_command_gives_files_a_record_and_events(tmp_path):
    async with bench(tmp_path) as made:
        image_id = await made.order(width=320, height=640)

        published = await made.events(image_id, "completed")
        image = await made.store.get(image_id)

        assert [event.type for event in published] == ["image.queued", "image.started", "image.completed"]
        assert (image.status, image.attempts, image.width, image.height) == ("completed", 1, 320, 640)
        assert made.files() == [image.image_file, image.thumbnail]
        assert image.file_size == len(await made.media.get(image.image_file))
        assert made.inference.keys == [image_id]


async def test_reported_progress_does_not_disturb_the_image(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.capabilities = {"models": []}
        made.inference.will(events(("progress", {"step": 1, "steps": 4}), completed(picture())))
        image_id = await made.order()

        image = await made.final(image_id)

        assert image.status == "completed"


async def test_implausible_progress_is_ignored(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.capabilities = {"models": []}
        beyond_any = [("progress", {"step": step, "steps": 10**400}) for step in (1, 2)]
        made.inference.will(events(*beyond_any, completed(picture())))

        image = await made.final(await made.order())

        assert (image.status, len(made.inference.orders)) == ("completed", 1)


@pytest.mark.fault(row=28)
@pytest.mark.parametrize("code", [408, 425, 429, 500, 503])
async def test_a_busy_service_is_retried(tmp_path, code):
    async with bench(tmp_path) as made:
        made.inference.will(status(code), status(code))
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.failures) == ("completed", 3, 2)
        assert made.files() == [f"generated_images/{image.created_at:%Y/%m}/{image.id}-3.png", image.thumbnail]


async def test_the_third_transient_error_fails_the_image(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.always(status(503, '{"detail": "out of memory"}'))
        image = await made.final(await made.order())

        assert (image.status, image.failures, image.error.code) == ("failed", 3, "inference_failed")
        assert "out of memory" in image.error.detail


@pytest.mark.fault(row=28)
async def test_retry_after_is_honoured(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.will(status(429, headers={"Retry-After": "300"}))
        image_id = await made.order()

        published = await made.events(image_id, "started")
        published = [event async for event in _upto(made, image_id, "image.queued", 2)]

        assert published[-1].data.retry_at - published[-1].time > timedelta(seconds=290)


async def test_a_huge_retry_after_is_limited(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.will(status(429, headers={"Retry-After": "1763800000000"}))

        published = [event async for event in _upto(made, await made.order(), "image.queued", 2)]

        assert published[-1].data.retry_at - published[-1].time <= timedelta(days=1)


async def _upto(made, image_id, event_type, count):
    async for entry in made.bus.read(Since(made.clock.now() - timedelta(hours=1))):
        if entry.event.subject == image_id:
            yield entry.event
            count -= entry.event.type == event_type
            if not count:
                return


@pytest.mark.fault(row=31)
@pytest.mark.parametrize("code", [400, 406, 410, 422])
async def test_a_refusal_fails_the_image_at_once(tmp_path, code):
    async with bench(tmp_path) as made:
        made.inference.will(status(code, '{"detail": "no such model"}'))
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.error.code) == ("failed", 1, "inference_refused")
        assert "no such model" in image.error.detail


@pytest.mark.fault(row=37)
async def test_a_redirect_is_not_followed(tmp_path):
    async with bench(tmp_path) as made:
        elsewhere = {"Location": f"{made.inference.url}/secret"}
        made.inference.will(status(307, headers=elsewhere))
        image = await made.final(await made.order())

        assert (image.status, image.error.code) == ("failed", "inference_refused")
        assert len(made.inference.orders) == 1


@pytest.mark.fault(row=33)
@pytest.mark.parametrize("content", [b"", b"<html>busy</html>", picture()[:-100]], ids=["empty", "html", "truncated"])
async def test_a_bad_picture_is_retried_once_then_fails(tmp_path, content):
    async with bench(tmp_path) as made:
        made.inference.always(body(content))
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.error.code) == ("failed", 2, "bad_image")
        assert made.inference.keys == [image.id, f"{image.id}-2"]
        assert made.files() == []


@pytest.mark.fault(row=33)
async def test_a_streamed_picture_must_be_base64(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.capabilities = {"models": []}
        made.inference.always(events(("completed", {"b64_json": "caf\u00e9", "format": "png"})))
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.error.code) == ("failed", 2, "bad_image")


@pytest.mark.fault(row=35)
async def test_an_endless_body_is_cut_at_the_limit(tmp_path):
    async def endless(request, _order):
        from aiohttp import web

        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))

    async with bench(tmp_path, MAX_IMAGE_FILE_SIZE="1000000") as made:
        made.inference.always(endless)
        image = await made.final(await made.order())

        assert (image.status, image.error.code) == ("failed", "bad_image")


@pytest.mark.fault(row=32)
async def test_a_truncated_body_is_retried(tmp_path):
    async def cut(request, _order):
        from aiohttp import web

        response = web.StreamResponse(headers={"Content-Type": "image/png", "Content-Length": "5000"})
        await response.prepare(request)
        await response.write(bytes(100))
        request.transport.abort()
        return response

    async with bench(tmp_path) as made:
        made.inference.will(cut)
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.failures) == ("completed", 2, 1)


@pytest.mark.fault(row=29)
async def test_a_silent_service_times_out_and_is_retried(tmp_path):
    async with bench(tmp_path, INFERENCE_TIMEOUT="0.2") as made:
        made.inference.will(made.inference.hold)
        image = await made.final(await made.order())

        assert (image.status, image.attempts, image.failures) == ("completed", 2, 1)
        assert made.inference.dropped.is_set()


async def test_cancel_drops_the_call_and_discards_the_result(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.will(made.inference.hold)
        image_id = await made.order()
        await made.inference.held.wait()

        cancelled = await change(made.store, image_id, lambda image: transitions.cancel(image, now=made.clock.now()))
        await made.outbox.publish_pending(cancelled)
        await asyncio.wait_for(made.inference.dropped.wait(), 30)

        image = await made.final(image_id)
        assert image.status == "cancelled"
        assert made.files() == []


async def test_a_renewal_detects_a_cancel_whose_event_was_missed(tmp_path):
    async with bench(tmp_path, LEASE="0.3") as made:
        made.inference.will(made.inference.hold)
        image_id = await made.order()
        await made.inference.held.wait()

        await change(made.store, image_id, lambda image: transitions.cancel(image, now=made.clock.now()))

        await asyncio.wait_for(made.inference.dropped.wait(), 30)


@pytest.mark.fault(row=20)
async def test_a_stopping_generator_gives_its_image_back(tmp_path):
    async with bench(tmp_path) as made:
        made.inference.will(made.inference.hold)
        image_id = await made.order()
        await made.inference.held.wait()

        made.stopping.set()
        await made.task

        image = await made.store.get(image_id)
        assert (image.status, image.attempts, image.failures, image.lost, image.lease) == ("queued", 1, 0, 0, None)


@pytest.mark.fault(row=25)
async def test_a_repeated_command_paints_nothing(tmp_path):
    async with bench(tmp_path) as made:
        image_id = await made.order()
        before = await made.final(image_id)
        again = GenerateImage(id=image_id, source="api", subject=image_id, time=made.clock.now())

        await made.bus.send(again)
        other = await made.final(await made.order())

        assert other.status == "completed"
        assert len(made.inference.orders) == 2
        assert (await made.store.get(image_id)).image_file == before.image_file


@pytest.mark.fault(row=27)
async def test_a_request_of_another_service_is_accepted(tmp_path):
    async with bench(tmp_path) as made:
        order = GenerateImage(
            id=new_image_id(made.clock.now()),
            source="newsletter",
            time=made.clock.now(),
            owner="ada",
            data=GenerationRequest(prompt="a lighthouse", width=64, height=64),
        )
        await made.bus.send(order)
        await made.bus.send(order)

        image = await made.final(order.id)

        assert (image.status, image.owner, image.source) == ("completed", "ada", "newsletter")
        assert len(made.inference.orders) == 1


@pytest.mark.fault(row=27)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"source": "api"}, "unknown_image"),
        ({"data": GenerationRequest(prompt="a"), "owner": None}, "owner_missing"),
        ({"data": GenerationRequest(prompt="a"), "owner": "ada", "age": 90_000}, "order_expired"),
        ({"id": "not-a-uuid"}, "invalid_id"),
        ({"id": "{0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b}"}, "invalid_id"),
        ({"id": "urn:uuid:0193a1b2-7c3d-7e4f-8a5b-6c7d8e9f0a1b"}, "invalid_id"),
        ({"id": "0193a1b27c3d7e4f8a5b6c7d8e9f0a1b"}, "invalid_id"),
    ],
    ids=["incomplete", "no owner", "too old", "no id", "braces", "urn", "no dashes"],
)
async def test_an_invalid_request_is_dead_lettered(tmp_path, fields, reason):
    async with bench(tmp_path) as made:
        now = made.clock.now()
        sent_at = now - timedelta(seconds=fields.pop("age", 0))
        await made.bus.send(
            GenerateImage(**{"id": new_image_id(now), "source": "newsletter", "time": sent_at} | fields)
        )

        letters = []
        arrived = asyncio.Event()

        async def take(letter):
            letters.append(letter)
            arrived.set()
            await asyncio.Event().wait()

        async with made.bus.consume(WorkQueue.DEAD, take, concurrency=1):
            await asyncio.wait_for(arrived.wait(), 30)

        assert letters[0].reason.startswith(reason)


@pytest.mark.fault(row=30)
async def test_an_unreachable_service_counts_no_failure(tmp_path):
    async with inference_double() as gone:
        dead_url = gone.url
    settings, clock = read_settings(FAST), SystemClock()
    stopping = asyncio.Event()
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        MemoryBus(name="test", clock=clock, log_size=1000, retry_delays=settings.retry_delays) as bus,
        FileMedia.open(tmp_path / "media") as media,
        asyncio.TaskGroup() as group,
    ):
        made = GeneratorBench(
            tmp_path, bus=bus, store=store, media=media, inference=None, settings=settings, clock=clock
        )
        group.create_task(
            run_generator(
                settings,
                Resources(bus, store, media, clock),
                backends=backends_at([dead_url], settings),
                stopping=stopping,
            )
        )
        image_id = await made.order()
        [*_, again] = [event async for event in _upto(made, image_id, "image.queued", 2)]
        image = await store.get(image_id)

        assert again.data.error.code == "inference_unreachable"
        assert (image.status, image.failures, image.lost) == (Status.QUEUED, 0, 0)
        stopping.set()
