"""Builders of valid objects for tests; a test names only the fields it is about."""

from datetime import UTC, datetime, timedelta

from common.application.events import EventFactory
from common.application.fleet.reader import Fleet
from common.application.outbox import Outbox
from common.domain.images import Batch, Image, Parameters, Status, new_image_id
from common.domain.views import ImagePresenter
from services.generator.inference.job import Job, job_of

NOON = datetime(2025, 1, 15, 12, tzinfo=UTC)


def an_image(**fields) -> Image:
    """A queued image of `local`, created at noon."""
    created_at = fields.pop("created_at", NOON)
    parameters = Parameters(steps=4, cfg_scale=7.5, sampler="Euler", seed=7, hires_fix=False)
    return Image(
        **{
            "id": new_image_id(created_at),
            "owner": "local",
            "prompt": "a lighthouse",
            "negative_prompt": "",
            "model": "sdxl",
            "width": 64,
            "height": 64,
            "parameters": parameters,
            "status": Status.QUEUED,
            "created_at": created_at,
            "source": "api",
            **fields,
        }
    )


def a_job(**fields) -> Job:
    """The job of an image with these fields."""
    return job_of(an_image(**fields), deployment="a deployment")


def a_batch(count: int = 4, **fields) -> Image:
    """The first image of a request for several; the others are not on record yet."""
    image = an_image(**fields)
    batch = Batch(id=image.id, index=0, count=count)
    return image.model_copy(update={"batch": batch, "batch_due": image.created_at})


def an_event_factory(clock, *, source: str = "test") -> EventFactory:
    return EventFactory(source, clock, ImagePresenter("/media/", timedelta(days=30)))


def an_outbox(bus, store, clock, *, source: str = "test", slots: int = 0, fleet: Fleet | None = None) -> Outbox:
    return Outbox(bus, store, clock, an_event_factory(clock, source=source), slots=slots, fleet=fleet)
