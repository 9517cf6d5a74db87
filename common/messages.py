"""What travels on the bus: commands, events and ticks, as CloudEvents 1.0 in structured JSON.

A command is an order, handled once; an event is a fact, heard by all; a tick says that it is time. Fields are only
ever added; a changed meaning is a new type. Source of the envelope: the CloudEvents 1.0.2 specification, section 3.
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
from common.domain.images import Status
from common.domain.requests import GenerationRequest, validation_failed
from common.domain.views import FailureView, ImageView, Outgoing, Time

CONTENT_TYPE: Final = "application/cloudevents+json"


# Pages show it as it is: nothing but a picture's bytes may pass. 16,000 of them make 21,336 characters of base64.
PreviewUrl = Annotated[
    str, Field(max_length=22_000, pattern=r"^data:image/(webp|jpeg|png);base64,[A-Za-z0-9+/]+={0,2}$")
]


class NoData(BaseModel):
    """The envelope says it all."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Progress(Outgoing):
    """How far a painting is; `preview` is what it looks like, where that is new and was told."""

    id: str
    step: int
    steps: int
    seconds_left: float | None
    preview: PreviewUrl | None = None


class Deleted(Outgoing):
    id: str


class RequestRefused(Outgoing):
    """An order that never became a record: its id, and why."""

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
    """What an operator may say with a tick; `older_than` in seconds. A timer says nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    older_than: Annotated[float, Field(ge=0)] | None = None
    dry_run: bool = False


class Message(BaseModel):
    """The envelope. `subject` is the image id where there is one; `source` the service that speaks."""

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
    """Paint this image: `id` is the image's. The api names a record; another service gives the whole order."""

    type: Literal["image.generate"] = "image.generate"
    owner: str | None = None
    data: GenerationRequest | NoData = NoData()


class CancelImage(Message):
    """Cancel the image that `subject` names."""

    type: Literal["image.cancel"] = "image.cancel"
    owner: str | None = None
    data: NoData = NoData()


class ImageEvent(Message):
    """A fact about an image of one owner; `revision` orders the facts of one image, `attempt` says whose they are."""

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
    """An api replica writes this into the log when it starts reading: who reads it back has caught up."""

    type: Literal["api.joined"] = "api.joined"
    data: NoData = NoData()


class Tick(Message):
    """It is time; `token` is true for the timer's own, which is armed again, and false for an operator's."""

    type: Literal["timer.reconcile", "timer.purge", "timer.sweep"]
    token: bool = False
    data: TickData = TickData()


Command = GenerateImage | CancelImage
AnyImageEvent = ImageChanged | ImageProgressed | ImageDeleted
Event = AnyImageEvent | JanitorPurged | JanitorSwept | ApiJoined
AnyMessage = Annotated[Command | Event | Tick, Field(discriminator="type")]
FINAL_EVENTS: Final = frozenset({"image.completed", "image.failed", "image.cancelled", "image.deleted"})

_ADAPTER: Final[TypeAdapter[Command | Event | Tick]] = TypeAdapter(AnyMessage)


def encode(message: Message) -> bytes:
    """Structured-mode JSON; an attribute without a value is absent (CloudEvents JSON format, section 2.1)."""
    body = message.model_dump_json(by_alias=True, exclude={"data"}, exclude_none=True)
    return f'{body[:-1]},"data":{message.data.model_dump_json(by_alias=True)}}}'.encode()


def decode(body: bytes) -> Command | Event | Tick:
    """Parse once at the border.

    Raises:
        Invalid: not JSON, no known type, or a field that cannot be taken.
    """
    try:
        return _ADAPTER.validate_json(body)
    except ValidationError as error:
        raise validation_failed(error, "the message") from error
    except RecursionError as error:
        raise Invalid("the message is nested too deeply", code="invalid_request") from error
