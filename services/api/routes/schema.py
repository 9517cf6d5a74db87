"""The models of REST requests and answers, except those of an image; the OpenAPI document is made from them.

The name of a model is published in the OpenAPI document. A model whose class has another name gives it as its title.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from common.application.webhooks.deliveries import DeliveryState, WebhookDelivery
from common.domain.images import Status
from common.domain.views import FailureView, ImageView, Outgoing, Time, is_none

UUID_PATTERN: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
ANY_CASE_UUID: Final = f"^{UUID_PATTERN.replace('a-f', 'a-fA-F')}$"
REFERENCE_PREFIX: Final = "#/components/schemas/"


class Query(BaseModel):
    """Query parameters. They arrive as text, so their types are converted; unknown parameters are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class BatchQuery(Query):
    """Unknown parameters are ignored: before there were batches, the routes that read this had no query."""

    model_config = ConfigDict(extra="ignore")

    batch: Annotated[bool, Field(description="act on all images of the batch of this image")] = False


class ImagePatch(BaseModel):
    """The fields of an image that its owner can change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, title="Change")

    pinned: bool


class Cancelled(Outgoing):
    id: str
    status: Literal[Status.CANCELLED] = Status.CANCELLED
    was: Status


class CancelledAnswer(Cancelled):
    """What was cancelled. With `?batch=true`, the first of the images, and all of them in `images`."""

    images: Annotated[list[Cancelled] | None, Field(exclude_if=is_none)] = None


class DeliveryTryAnswer(Outgoing):
    """A try: the `status` of the receiver's answer, or in `error` why there was none; `duration` in seconds."""

    model_config = ConfigDict(title="DeliveryTry")

    at: Time
    duration: float
    status: int | None
    error: str | None


class DeliveryAnswer(Outgoing):
    """An event on its way to a webhook; `id` is the `webhook-id` of every try, `nextTryAt` is null after the last."""

    model_config = ConfigDict(title="Delivery")

    id: str
    image_id: str
    type: str
    host: Annotated[str, Field(description="of the webhook, whose path and query may hold secrets")]
    state: DeliveryState
    created_at: Time
    next_try_at: Time | None
    tries: list[DeliveryTryAnswer]

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> DeliveryAnswer:
        return cls(
            id=delivery.id,
            image_id=delivery.image_id,
            type=delivery.type,
            host=delivery.host,
            state=delivery.state,
            created_at=delivery.created_at,
            next_try_at=delivery.due_at,
            tries=[
                DeliveryTryAnswer(at=each.at, duration=each.took_s, status=each.status, error=each.error)
                for each in delivery.tries
            ],
        )


class DeliveriesAnswer(Outgoing):
    """The deliveries of an image, in the order of its events, with the latest 30 tries of each."""

    model_config = ConfigDict(title="Deliveries")

    deliveries: list[DeliveryAnswer]


class ModelAnswer(Outgoing):
    model_config = ConfigDict(title="ModelOffer")

    id: str
    name: str
    samplers: list[str]
    max_width: int | None
    max_height: int | None
    max_steps: int | None
    grid: Annotated[int | None, Field(description="Both sides must be multiples of it, in pixels")]
    hires_fix: bool
    negative_prompt: bool
    live: Annotated[bool, Field(description="False if no generator with this model is running: its images wait")]


class ModelsAnswer(Outgoing):
    """What can be requested. `known` is false if no generator lists its models: then any model can be requested."""

    model_config = ConfigDict(title="Offers")

    features: Annotated[list[str], Field(description="What settings of the server switch on: `share_links`")]

    known: bool
    engine: str | None
    notice: str | None
    models: list[ModelAnswer]
    defaults: dict[str, str | int | float | bool]


class Limit(Outgoing):
    """`remaining` of `limit` are left; one more in `resetsIn` seconds. A `limit` of 0 means no limit."""

    limit: int
    remaining: int
    resets_in: float


class Limits(Outgoing):
    """`concurrent` images are sent or painted at once, `waiting` more may wait; it is null if none may wait."""

    hourly: Limit
    concurrent: Limit
    waiting: Limit | None


class Ticket(Outgoing):
    """A credential for one websocket within `expiresIn` seconds, sent as the subprotocol `ticket.<ticket>`."""

    ticket: str
    expires_in: int


class Health(Outgoing):
    status: Literal["ok", "unavailable"]
    unready_reasons: Annotated[dict[str, str], Field(alias="trouble")]
    warnings: dict[str, str] = Field(default_factory=dict)


class Problem(Outgoing):
    """An error (RFC 9457, section 3); `code` is stable."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str


class FailedProblem(Problem):
    """The requested image ended without a picture; `image` is its record, `images` those of its batch."""

    error: FailureView
    image: ImageView
    images: Annotated[list[ImageView] | None, Field(exclude_if=is_none)] = None


def with_published_names(document: dict[str, Any]) -> dict[str, Any]:
    """The document with each schema under its title: the name of a class may change, a published name may not."""
    schemas: dict[str, dict[str, Any]] = document["components"]["schemas"]
    names = {name: schema.get("title", name) for name, schema in schemas.items()}
    document["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    references = {REFERENCE_PREFIX + name: REFERENCE_PREFIX + title for name, title in names.items() if name != title}
    text = re.sub(
        r'(?<=")#/components/schemas/\w+(?=")', lambda found: references.get(found[0], found[0]), json.dumps(document)
    )
    renamed: dict[str, Any] = json.loads(text)
    return renamed
