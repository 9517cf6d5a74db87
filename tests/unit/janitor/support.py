"""Support for the tests of the janitor's jobs: a context with a real store, real files and a bus in memory."""

from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

from common.bus.memory import MemoryBus
from common.bus.port import Since
from common.domain import images
from common.domain.images import Format, Lease, Status
from common.messages import ApiJoined, TickData
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.janitor.context import JanitorContext
from tests.making import an_image, an_outbox
from tests.media_folder import media_in

NOTHING = TickData()


@asynccontextmanager
async def cluster(tmp_path, **more):
    clock = ManualClock()
    settings = read_settings({"PURGE_BATCH": "10", **more})
    async with (
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        MemoryBus(name="test", clock=clock, log_size=10_000, retry_delays=settings.retry_delays) as bus,
        media_in(tmp_path / "media") as media,
    ):
        outbox = an_outbox(bus, store, clock, source="janitor")
        yield JanitorContext(bus=bus, store=store, media=media, outbox=outbox, settings=settings, clock=clock)


async def published_events(context):
    """The events so far: type and subject, in order."""
    return [(event.type, event.subject) for event in await _events(context)]


async def last_report(context):
    """The report of the last sweep."""
    return next(event.data for event in reversed(await _events(context)) if event.type == "janitor.swept")


async def _events(context):
    mark = ApiJoined(id=images.new_image_id(context.clock.now()), source="test", time=context.clock.now())
    await context.bus.publish(mark)
    found = []
    async with aclosing(context.bus.read(Since(context.clock.now() - timedelta(days=100)))) as entries:
        async for entry in entries:
            if entry.event.id == mark.id:
                break
            found.append(entry.event)
    return [event for event in found if event.type != "api.joined"]


async def a_completed_image(context, **fields):
    image = an_image(created_at=context.clock.now(), attempts=1, status=Status.COMPLETED, format=Format.PNG, **fields)
    image = image.model_copy(
        update={
            "image_file": images.image_key(image, Format.PNG),
            "thumbnail": images.thumbnail_key(image, Format.PNG),
            "file_size": 3,
        }
    )
    await context.store.insert(image)
    await context.media.put(image.image_file, b"big")
    await context.media.put(image.thumbnail, b"s")
    return image


async def inserted(context, **fields):
    image = an_image(**{"created_at": context.clock.now(), **fields})
    await context.store.insert(image)
    return image


def running(context, until_s, **fields):
    lease = Lease(token="dead", worker="w", until=context.clock.now() + timedelta(seconds=until_s))
    return {"status": Status.RUNNING, "attempts": 1, "lease": lease, "started_at": context.clock.now(), **fields}
