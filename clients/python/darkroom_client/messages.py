"""The messages on the bus, as CloudEvents 1.0.

Made by `make client-models` from the models of the server; not edited by hand.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from darkroom_client.models import Batch, Failure, Image
from darkroom_client.reading import EPOCH, Model, Sent


class GenerationRequest(Sent):
    """The fields of a request; names in snake_case or camelCase, unknown names are rejected."""

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    negative_prompt: Annotated[str, Field(max_length=4000)] = ""
    model: Annotated[str, Field(min_length=1, max_length=100)] = "sdxl"
    width: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] = 1024
    height: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] = 1024
    steps: Annotated[int, Field(ge=1, le=150)] = 30
    cfg_scale: Annotated[float, Field(ge=0, le=30)] = 7.5
    sampler: Annotated[str, Field(min_length=1, max_length=100)] = "Euler"
    seed: Annotated[int, Field(ge=-1, le=4294967295)] = -1
    num_images: Annotated[int, Field(ge=1, le=10)] = 1
    hires_fix: bool = False
    webhook: str | None = None


class Nothing(Model):
    """The data of a message whose envelope is enough."""


class Cancel(Model):
    """What a cancel is about; with `batch`, every image of the batch to which the named image belongs."""

    batch: bool = False


class Progress(Model):
    """The progress of an attempt; `preview` is present if the inference service sent a new one."""

    id: str
    step: int
    steps: int
    seconds_left: float | None = None
    preview: str | None = None
    batch: Batch | None = None


class Deleted(Model):
    id: str
    batch: Batch | None = None


class OrderRefused(Model):
    """A request that was rejected before a record existed."""

    id: str
    status: Literal["failed"] = "failed"
    error: Failure = Failure()


class PurgeReport(Model):
    older_than: datetime = EPOCH
    dry_run: bool = False
    images: int = 0


class SweepReport(Model):
    """`refused` is why the sweep has changed nothing, although it was to: too much was missing, or the media failed."""

    dry_run: bool = False
    files_without_record: int = 0
    records_without_file: int = 0
    records_without_thumbnail: int = 0
    examples: list[str] = []
    refused: str | None = None


class GenerateImage(Model):
    """Paint this image; `id` is the image id. The outbox refers to a record; another service sends the whole request.

    `source` and `owner` are those of the record. `subject` may name anything, and is not used."""

    id: str
    specversion: Literal["1.0"] = "1.0"
    source: str = ""
    type: Literal["image.generate"] = "image.generate"
    subject: str = ""
    time: datetime | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    data: GenerationRequest | Nothing = Nothing()
    owner: str | None = None


class CancelImage(Model):
    """Cancel the image that `subject` names, or its whole batch."""

    id: str
    specversion: Literal["1.0"] = "1.0"
    source: str = ""
    type: Literal["image.cancel"] = "image.cancel"
    subject: str = ""
    time: datetime | None = None
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    data: Cancel = Cancel()
    owner: str | None = None


class ImageChanged(Model):
    id: str
    type: Literal["image.queued", "image.started", "image.completed", "image.failed", "image.cancelled"]
    data: Image | OrderRefused
    specversion: Literal["1.0"] = "1.0"
    source: str = ""
    subject: str = ""
    time: datetime = EPOCH
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    owner: str = ""
    revision: int = 0
    attempt: int = 0


class ImageProgressed(Model):
    id: str
    data: Progress
    specversion: Literal["1.0"] = "1.0"
    source: str = ""
    type: Literal["image.progress"] = "image.progress"
    subject: str = ""
    time: datetime = EPOCH
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    owner: str = ""
    revision: int = 0
    attempt: int = 0


class ImageDeleted(Model):
    id: str
    data: Deleted
    specversion: Literal["1.0"] = "1.0"
    source: str = ""
    type: Literal["image.deleted"] = "image.deleted"
    subject: str = ""
    time: datetime = EPOCH
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    owner: str = ""
    revision: int = 0
    attempt: int = 0


class JanitorPurged(Model):
    id: str
    data: PurgeReport
    specversion: Literal["1.0"] = "1.0"
    source: str = ""
    type: Literal["janitor.purged"] = "janitor.purged"
    subject: str = ""
    time: datetime = EPOCH
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None


class JanitorSwept(Model):
    id: str
    data: SweepReport
    specversion: Literal["1.0"] = "1.0"
    source: str = ""
    type: Literal["janitor.swept"] = "janitor.swept"
    subject: str = ""
    time: datetime = EPOCH
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None


Command = GenerateImage | CancelImage
BusEvent = ImageChanged | ImageProgressed | ImageDeleted | JanitorPurged | JanitorSwept
