"""The events of images as classes, for `match`.

match event:
    case Progress(step=step, steps=steps): ...
    case Completed(image=image): ...
    case Failed(image=image): ...
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter

from darkroom_client import messages
from darkroom_client.models import Image, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEvent:
    """Something happened to an image. `cursor` resumes after this event; it is empty if there is none.

    `revision` orders the events of one image, `attempt` is the attempt that they belong to. `owner` is empty over HTTP,
    where all events are those of the caller.
    """

    image_id: str
    owner: str = ""
    cursor: str = ""
    time: datetime | None = None
    revision: int = 0
    attempt: int = 0

    @property
    def is_final(self) -> bool:
        """Whether it is the last event of its image."""
        return isinstance(self, Completed | Failed | Cancelled | Deleted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued(ImageEvent):
    """It waits; again after a failed attempt, with `image.error` and `image.retry_at`."""

    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(ImageEvent):
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(ImageEvent):
    """At most four a second. `preview_url` is a data URL, present if the picture so far has a new preview."""

    step: int
    steps: int
    seconds_left: float | None = None
    preview_url: str | None = None

    @property
    def preview(self) -> bytes | None:
        """The picture so far, as a small WEBP, JPEG or PNG."""
        return base64.b64decode(self.preview_url.partition(",")[2]) if self.preview_url else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(ImageEvent):
    """Its picture can be downloaded."""

    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(ImageEvent):
    """It ended without a picture; `image.error` says why."""

    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(ImageEvent):
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(ImageEvent):
    """Deleted by its owner or by the purge."""

    reason: str = "deleted: the image was deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The unfinished images at `cursor`, and how many `more` there are than these."""

    cursor: str
    images: tuple[Image, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Snapshot):
    """The first event of a `listen` without `after`: what happens from now on follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Snapshot):
    """The server does not have all events since the cursor any more: read the history, then go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePositions:
    """The positions of all queued images, 1 is next; those in `estimated` are estimates."""

    positions: Mapping[str, int]
    estimated: frozenset[str] = frozenset()
    estimated_seconds: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGenerator:
    """The queued images that no running generator can paint now, each with a text for people."""

    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsChanged:
    """`models()` has another answer now."""


Hint = QueuePositions | NoGenerator | ModelsChanged
OneImageEvent = Queued | Started | Progress | Completed | Failed | Cancelled | Deleted
Event = OneImageEvent | Connected | Gap | Hint

_Changed = Queued | Started | Completed | Failed | Cancelled
_CHANGES: Final[Mapping[str, type[_Changed]]] = {
    "image.queued": Queued,
    "image.started": Started,
    "image.completed": Completed,
    "image.failed": Failed,
    "image.cancelled": Cancelled,
}
_BY_STATUS: Final[Mapping[Status, type[_Changed]]] = {
    Status.QUEUED: Queued,
    Status.RUNNING: Started,
    Status.COMPLETED: Completed,
    Status.FAILED: Failed,
    Status.CANCELLED: Cancelled,
}
_TIME: Final[TypeAdapter[datetime | None]] = TypeAdapter(datetime | None)
_NUMBERS: Final = TypeAdapter(dict[str, int])
_SECONDS: Final[TypeAdapter[dict[str, float] | None]] = TypeAdapter(dict[str, float] | None)
_TEXTS: Final = TypeAdapter(dict[str, str])
_IDS: Final = TypeAdapter(frozenset[str])


def event_of_record(image: Image) -> OneImageEvent:
    """The event that brought an image into its state."""
    return _BY_STATUS[image.status](image_id=image.id, image=image, attempt=image.attempts)


def event_of_message(
    message: messages.ImageChanged | messages.ImageProgressed | messages.ImageDeleted,
) -> OneImageEvent:
    """The event of a message on the bus."""
    common: dict[str, Any] = {
        "image_id": message.subject or message.data.id,
        "owner": message.owner,
        "time": message.time,
        "revision": message.revision,
        "attempt": message.attempt,
    }
    match message:
        case messages.ImageDeleted():
            return Deleted(**common)
        case messages.ImageProgressed(data=data):
            return _progress(data, common)
        case messages.ImageChanged(type=kind, data=Image() as image):
            return _CHANGES[kind](image=image, **common)
        case messages.ImageChanged(data=messages.OrderRefused(id=image_id, error=error)):
            return Failed(image=Image(id=image_id, status=Status.FAILED, error=error), **common)
        case _:
            raise ValueError(f"{message.type} is no event of an image")


def _progress(data: messages.Progress, common: Mapping[str, Any]) -> Progress:
    return Progress(
        step=data.step, steps=data.steps, seconds_left=data.seconds_left, preview_url=data.preview, **common
    )


def parse_frame(text: str) -> Event | None:
    """The event of a frame of the websocket; None if it is of a kind or form that this version does not know."""
    try:
        frame = json.loads(text)
        return _parsed(frame) if isinstance(frame, dict) else None
    except (ValueError, TypeError, OverflowError, RecursionError):  # pydantic's errors are ValueErrors
        return None


def _parsed(frame: dict[str, Any]) -> Event | None:
    kind, data = frame.get("type"), frame.get("data")
    match kind:
        case "hello" | "gap":
            images = tuple(Image.model_validate(each) for each in frame.get("images") or ())
            snapshot = Connected if kind == "hello" else Gap
            return snapshot(cursor=str(frame.get("cursor") or ""), images=images, more=int(frame.get("more") or 0))
        case "places":
            return QueuePositions(
                positions=_NUMBERS.validate_python(frame.get("places")),
                estimated=_IDS.validate_python(frame.get("estimated") or ()),
                estimated_seconds=_SECONDS.validate_python(frame.get("estimatedSeconds")),
            )
        case "waiting":
            return NoGenerator(reasons=_TEXTS.validate_python(frame.get("waitingFor")))
        case "models":
            return ModelsChanged()
        case _:
            return _image_event(str(kind), frame, data)


def _image_event(kind: str, frame: dict[str, Any], data: Any) -> OneImageEvent | None:
    common: dict[str, Any] = {
        "image_id": str(frame.get("subject") or ""),
        "cursor": str(frame.get("cursor") or ""),
        "time": _TIME.validate_python(frame.get("time")),
        "revision": int(frame.get("revision") or 0),
        "attempt": int(frame.get("attempt") or 0),
    }
    if kind in _CHANGES:
        return _CHANGES[kind](image=Image.model_validate({"id": common["image_id"], **data}), **common)
    if kind == "image.deleted":
        return Deleted(**common)
    if kind == "image.progress":
        progress = messages.Progress.model_validate({"id": common["image_id"], **data})
        if progress.step < 0 or progress.steps < 1:
            return None
        return _progress(progress, common)
    return None
