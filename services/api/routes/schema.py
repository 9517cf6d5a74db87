"""What the REST routes take and give, beside the image itself; the contract is generated from these models."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from common.domain.images import Status
from common.domain.views import FailureView, ImageView, Outgoing, Time
from services.api.events.queue_positions import MAX_POSITION

# milliseconds and an image's id; to a client it is opaque
_CURSOR: Final = "^[0-9]{13}[.][0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


class Query(BaseModel):
    """Query parameters arrive as text, so they are read leniently; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class HistoryQuery(Query):
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(pattern=_CURSOR, description="`nextCursor` of the page before")] | None = None
    status: Literal["completed", "failed", "cancelled", "queued", "running", "active", "all"] = "completed"


class Change(BaseModel):
    """What of an image can be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    pinned: bool


class ImageAnswer(ImageView):
    """The image, and its place in the queue of all owners, which no event says: it would be old when it is heard."""

    queue_place: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_POSITION,
            description=f"1 is next, {MAX_POSITION} any place beyond; null where it is not queued, or waits for its retry",
        ),
    ]


class HistoryItem(Outgoing):
    id: str
    status: Status
    prompt: str
    image_url: str | None
    thumbnail_url: str | None
    model_used: str
    width: int
    height: int
    pinned: bool
    created_at: Time


class HistoryPage(Outgoing):
    images: list[HistoryItem]
    total: int
    page: int
    per_page: int
    next_cursor: str | None


class Cancelled(Outgoing):
    id: str
    status: Literal[Status.CANCELLED] = Status.CANCELLED
    was: Status


class ModelOffer(Outgoing):
    id: str
    name: str
    samplers: list[str]
    max_width: int | None
    max_height: int | None
    max_steps: int | None
    hires_fix: bool
    negative_prompt: bool


class Offers(Outgoing):
    """What can be ordered; `known` is false where the inference service does not say, and nothing is checked."""

    known: bool
    engine: str | None
    notice: str | None
    models: list[ModelOffer]
    defaults: dict[str, str | int | float | bool]


class Limit(Outgoing):
    """Of `limit`, `remaining` are left; one more in `resets_in` seconds. 0 is no limit."""

    limit: int
    remaining: int
    resets_in: float


class Limits(Outgoing):
    hourly: Limit
    concurrent: Limit


class Ticket(Outgoing):
    """For one websocket, within `expires_in` seconds: offered as the subprotocol `ticket.<ticket>`."""

    ticket: str
    expires_in: int


class Health(Outgoing):
    status: Literal["ok", "unavailable"]
    unready_reasons: Annotated[dict[str, str], Field(alias="trouble")]


class Problem(Outgoing):
    """RFC 9457, section 3; `code` is stable."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str


class FailedProblem(Problem):
    """The image that was ordered ended without a picture; `image` is its record."""

    error: FailureView
    image: ImageView
