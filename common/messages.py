"""The messages on the bus, as CloudEvents 1.0 in structured JSON.

A command is handled once, an event is delivered to all subscribers, a tick starts a periodic run. Fields are only
added; a changed meaning gets a new type. Source of the envelope: the CloudEvents 1.0.2 specification, section 3.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

from common.domain.errors import Invalid
from common.domain.images import FINAL, Status
from common.domain.requests import GenerationRequest, validation_failed
from common.domain.views import FailureView, ImageView, Outgoing, Time

CONTENT_TYPE: Final = "application/cloudevents+json"


# Pages show it unchanged, so only a picture's bytes are allowed. 16,000 bytes make 21,336 characters of base64.
PreviewUrl = Annotated[
    str, Field(max_length=22_000, pattern=r"^data:image/(webp|jpeg|png);base64,[A-Za-z0-9+/]+={0,2}$")
]


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


class Deleted(Outgoing):
    id: str


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
    dry_run: bool
    files_without_record: int
    records_without_file: int
    records_without_thumbnail: int
    examples: list[str]


class TickData(BaseModel):
    """The options of an operator's tick; `older_than` in seconds. A timer sends the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    older_than: Annotated[float, Field(ge=0)] | None = None
    dry_run: bool = False


class Message(BaseModel):
    """The envelope. `subject` is the image id if there is one; `source` is the sending service."""

    model_config = ConfigDict(frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str = ""
    time: Time
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    data: Any = None


class GenerateImage(Message):
    """Paint this image; `id` is the image id. The api refers to a record; another service sends the whole request."""

    type: Literal["image.generate"] = "image.generate"
    owner: str | None = None
    data: GenerationRequest | NoData = NoData()


class CancelImage(Message):
    """Cancel the image that `subject` names."""

    type: Literal["image.cancel"] = "image.cancel"
    owner: str | None = None
    data: NoData = NoData()


class ImageEvent(Message):
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


class JanitorPurged(Message):
    type: Literal["janitor.purged"] = "janitor.purged"
    data: PurgeReport


class JanitorSwept(Message):
    type: Literal["janitor.swept"] = "janitor.swept"
    data: SweepReport


class ApiJoined(Message):
    """Published by an api replica when it starts to read the log: it has caught up when it reads this event."""

    type: Literal["api.joined"] = "api.joined"
    data: NoData = NoData()


class Tick(Message):
    """Starts a periodic run; `token` is true for the timer's tick, which is armed again, false for an operator's."""

    type: Literal["timer.reconcile", "timer.purge", "timer.sweep"]
    token: bool = False
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
