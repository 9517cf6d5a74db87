"""The messages on the bus, as CloudEvents 1.0 in structured JSON.

A command is handled once, an event is delivered to all subscribers, a tick starts a periodic run. Fields are only
added; a changed meaning gets a new type. Source of the envelope: the CloudEvents 1.0.2 specification, section 3.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from common.domain.errors import Invalid
from common.domain.images import FINAL, Status, canonical_image_id
from common.domain.requests import GenerationRequest, validation_failed
from common.domain.texts import clean_text, clean_traceparent
from common.domain.views import FailureView, ImageView, OfBatch, Outgoing, Time

CONTENT_TYPE: Final = "application/cloudevents+json"


# Pages show it unchanged, so only a picture's bytes are allowed. 16,000 bytes make 21,336 characters of base64.
PreviewUrl = Annotated[
    str, Field(max_length=22_000, pattern=r"^data:image/(webp|jpeg|png);base64,[A-Za-z0-9+/]+={0,2}$")
]


def _json_media_type(value: Any) -> Any:
    """`application/json` for every spelling of JSON in UTF-8: RFC 2045 ignores case, and allows parameters."""
    if not isinstance(value, str):
        return value
    media_type, _, parameters = value.lower().partition(";")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters)
    is_json = re.fullmatch(r"application/([a-z0-9.!#$&^_-]+\+)?json", media_type.strip())
    is_utf8 = charset is None or charset[1] in {"utf-8", "utf8", "us-ascii"}
    return "application/json" if is_json and is_utf8 else value


def _one_line(value: str) -> str:
    if clean_text(value, MAX_SOURCE) != value.strip():
        raise ValueError(f"must have at most {MAX_SOURCE} characters and no control characters")
    return value


MAX_SOURCE: Final = 255  # characters; AMQP's `app_id` holds 255 bytes
ImageId = Annotated[str, AfterValidator(canonical_image_id)]
Source = Annotated[str, AfterValidator(_one_line)]
TraceParent = Annotated[str | None, BeforeValidator(clean_traceparent)]


class NoData(BaseModel):
    """The data of a message whose envelope is enough."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Nothing")


class Progress(Outgoing):
    """The progress of an attempt; `preview` is present if the inference service sent a new one."""

    id: str
    step: int
    steps: int
    seconds_left: float | None
    preview: PreviewUrl | None = None
    batch: OfBatch = None


class Deleted(Outgoing):
    id: str
    batch: OfBatch = None


class RequestRefused(Outgoing):
    """A request that was rejected before a record existed."""

    model_config = ConfigDict(title="OrderRefused")

    id: str
    status: Literal[Status.FAILED] = Status.FAILED
    error: FailureView


class PurgeReport(Outgoing):
    older_than: Time
    dry_run: bool
    images: int


class SweepReport(Outgoing):
    """`refused` is why the sweep has changed nothing, although it was to: too much was missing, or the media failed."""

    dry_run: bool
    files_without_record: int
    records_without_file: int
    records_without_thumbnail: int
    examples: list[str]
    refused: str | None = None


class TickData(BaseModel):
    """The options of an operator's tick; `older_than` in seconds. A timer sends the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)

    older_than: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    dry_run: bool = False


class Message(BaseModel):
    """The envelope. `subject` is the image id if there is one; `source` is the sending service."""

    model_config = ConfigDict(frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str = ""
    time: Time | None = None
    datacontenttype: Annotated[Literal["application/json"], BeforeValidator(_json_media_type)] = "application/json"
    traceparent: TraceParent = None
    data: Any = None


class WorkMessage(Message):
    """A message of a work queue, from any service. A missing `time` means now."""

    source: Source

    @model_validator(mode="before")
    @classmethod
    def _without_unset(cls, fields: Any) -> Any:
        # an attribute without a value may be null (CloudEvents JSON format, section 2.2)
        return {name: value for name, value in fields.items() if value is not None} if type(fields) is dict else fields


class GenerateImage(WorkMessage):
    """Paint this image; `id` is the image id. The outbox refers to a record; another service sends the whole request.

    `source` and `owner` are those of the record. `subject` may name anything, and is not used.
    """

    id: ImageId
    type: Literal["image.generate"] = "image.generate"
    owner: str | None = None
    data: GenerationRequest | NoData = NoData()


class CancelData(BaseModel):
    """What a cancel is about; with `batch`, every image of the batch to which the named image belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Cancel")

    batch: Annotated[bool, Field(strict=True, exclude_if=lambda batch: not batch)] = False


class CancelImage(WorkMessage):
    """Cancel the image that `subject` names, or its whole batch."""

    subject: ImageId = ""
    type: Literal["image.cancel"] = "image.cancel"
    owner: str | None = None
    data: CancelData = CancelData()


class EventMessage(Message):
    """An event: something happened at `time`."""

    time: Time


class ImageEvent(EventMessage):
    """An event about one image; `revision` orders the events of one image, `attempt` is the attempt they belong to."""

    owner: str
    revision: int
    attempt: int


ImageChange = Literal["image.queued", "image.started", "image.completed", "image.failed", "image.cancelled"]


class ImageChanged(ImageEvent):
    type: ImageChange
    data: ImageView | RequestRefused


class ImageProgressed(ImageEvent):
    type: Literal["image.progress"] = "image.progress"
    data: Progress


class ImageDeleted(ImageEvent):
    type: Literal["image.deleted"] = "image.deleted"
    data: Deleted


class JanitorPurged(EventMessage):
    type: Literal["janitor.purged"] = "janitor.purged"
    data: PurgeReport


class JanitorSwept(EventMessage):
    type: Literal["janitor.swept"] = "janitor.swept"
    data: SweepReport


class ApiJoined(EventMessage):
    """Published by an api replica when it starts to read the log: it has caught up when it reads this event."""

    type: Literal["api.joined"] = "api.joined"
    data: NoData = NoData()


class Tick(WorkMessage):
    """Starts a periodic run; `token` is true for the timer's tick, which is armed again, false for an operator's."""

    type: Literal["timer.reconcile", "timer.purge", "timer.sweep"]
    token: Annotated[bool, Field(strict=True)] = False
    data: TickData = TickData()


Command = GenerateImage | CancelImage
AnyImageEvent = ImageChanged | ImageProgressed | ImageDeleted
Event = AnyImageEvent | JanitorPurged | JanitorSwept | ApiJoined
AnyMessage = Annotated[Command | Event | Tick, Field(discriminator="type")]
FINAL_EVENTS: Final = frozenset({*(f"image.{status}" for status in FINAL), "image.deleted"})

_ADAPTER: Final[TypeAdapter[Command | Event | Tick]] = TypeAdapter(AnyMessage)


def encode(message: Message) -> bytes:
    """Structured-mode JSON; an attribute without a value is absent (CloudEvents JSON format, section 2.1)."""
    body = message.model_dump_json(by_alias=True, exclude={"data"}, exclude_none=True)
    return f'{body[:-1]},"data":{message.data.model_dump_json(by_alias=True)}}}'.encode()


def decode(body: bytes) -> Command | Event | Tick:
    """The message in this body.

    Raises:
        Invalid: it is not JSON, has an unknown type, or a field is not valid.
    """
    try:
        return _ADAPTER.validate_json(body)
    except ValidationError as error:
        raise validation_failed(error, "the message") from error
    except RecursionError as error:
        raise Invalid("the message is nested too deeply", code="invalid_request") from error
