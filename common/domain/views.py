"""The image as clients see it, over REST and in events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from common.domain.images import Image, Status

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)


def iso(moment: AwareDatetime) -> str:
    """`2025-01-15T12:00:00.000Z`: one form everywhere, so that the text sorts by time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def clamped(moment: datetime) -> datetime:
    """The moment in UTC, or the limit that it is beyond; a time without a zone is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if EARLIEST <= aware <= LATEST:
        return aware.astimezone(UTC)
    return EARLIEST if aware < EARLIEST else LATEST


def is_none(value: object) -> bool:
    return value is None


# Any sender may write a time: it is within what the code can compute with, and in UTC, as `iso` expects.
Time = Annotated[AwareDatetime, AfterValidator(clamped), PlainSerializer(iso, return_type=str, when_used="json")]


class Outgoing(BaseModel):
    """The root of the models that Darkroom sends; names are camelCase in JSON."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, serialize_by_alias=True)


class ParametersView(Outgoing):
    steps: int
    cfg_scale: float
    sampler: str
    seed: int
    hires_fix: bool


class FailureView(Outgoing):
    code: str
    detail: str


class BatchView(Outgoing):
    """The place of an image among the `count` images of one request; `index` begins with 0."""

    model_config = ConfigDict(title="Batch")

    id: Annotated[str, Field(description="the id of the first image of the batch")]
    index: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(ge=1)]

    @classmethod
    def of(cls, image: Image) -> BatchView | None:
        return None if image.batch is None else cls(**dict(image.batch))


# absent, not null: the representation of an image that was requested alone stays as it was before batches
OfBatch = Annotated[BatchView | None, Field(exclude_if=is_none, description="absent if one image was requested")]


class ImageView(Outgoing):
    """The image in REST answers and events; a field without a value is null, except `batch`, which is absent."""

    id: str
    status: Status
    prompt: str
    negative_prompt: str
    model_used: str
    width: int
    height: int
    parameters: ParametersView
    image_url: str | None
    thumbnail_url: str | None
    format: str | None
    file_size: int | None
    generation_time: float | None
    attempts: int
    failures: int
    error: FailureView | None
    pinned: bool
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    retry_at: Time | None
    expires_at: Time | None
    # absent in events of older releases, which the log may still hold
    waiting_since: Time | None = None
    dispatched_at: Time | None = None
    batch: OfBatch = None


@dataclass(frozen=True, slots=True)
class ImagePresenter:
    """Makes the view of an image; `media_url` is the URL prefix of its files.

    `retention` is how long an image is kept; None means that it does not expire.
    """

    media_url: str
    retention: timedelta | None

    def view(self, image: Image) -> ImageView:
        shown_thumbnail = image.thumbnail or image.image_file
        return ImageView(
            id=image.id,
            status=image.status,
            prompt=image.prompt,
            negative_prompt=image.negative_prompt,
            model_used=image.model,
            width=image.width,
            height=image.height,
            parameters=ParametersView(**dict(image.parameters)),
            image_url=self.media_url + image.image_file if image.image_file else None,
            thumbnail_url=self.media_url + shown_thumbnail if shown_thumbnail else None,
            format=image.format,
            file_size=image.file_size,
            generation_time=image.generation_time,
            attempts=image.attempts,
            failures=image.failures,
            error=FailureView(**dict(image.error)) if image.error else None,
            pinned=image.pinned,
            created_at=image.created_at,
            started_at=image.started_at,
            finished_at=image.finished_at,
            retry_at=image.not_before,
            expires_at=None if image.pinned or self.retention is None else image.created_at + self.retention,
            waiting_since=image.waiting_since,
            dispatched_at=image.dispatched_at,
            batch=BatchView.of(image),
        )
