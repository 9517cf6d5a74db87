"""The record of one image, its states, and the moves between them. Pure: no clock, no store, no bus.

    queued ──claim──▶ running ──complete──▶ completed
      ▲  │               │ │
      │  │               │ ├──fail────────▶ failed        (from queued too)
      │  └──cancel───────┼─┴──cancel──────▶ cancelled
      └──retry, give_back, lapse

A move takes the record as it is and returns the record as it should become, one revision later, or raises `Refused`.
It returns the very same object where nothing has to change, so that a move may safely be applied twice.
What fences work is the lease (token and attempt): a worker whose lease is no longer on the record is refused.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from common.errors import Invalid, Refused

MAX_FAILURES: Final = 3  # the third transient error of the inference service fails the image
MAX_LOST: Final = 6  # an image that outlives six workers is what kills them
WORKER_LOST: Final = "worker_lost"


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
MAY_BECOME: Final[dict[Status, frozenset[Status]]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset(Status),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class Format(StrEnum):
    """What a picture may be; the value is Pillow's name in lower case."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def extension(self) -> str:
        return "jpg" if self is Format.JPEG else self.value


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameters(Frozen):
    steps: int
    cfg_scale: float
    sampler: str
    seed: int
    hires_fix: bool


class Lease(Frozen):
    """Who works on the image: a token random for each process, and until when it is believed."""

    token: str
    worker: str
    until: AwareDatetime


class Failure(Frozen):
    """Why an image failed, or why its last attempt did; `code` is stable."""

    code: str
    detail: str


class EventDue(Frozen):
    """An event that a move owes to the listeners; kept on the record until the broker has confirmed it."""

    type: str
    revision: int
    since: AwareDatetime


class Image(Frozen):
    """One image, from the order to the tombstone. A field without a value is absent from the document."""

    id: str
    owner: str
    prompt: str
    negative_prompt: str
    model: str
    width: int
    height: int
    parameters: Parameters
    status: Status
    created_at: AwareDatetime
    source: str
    revision: int = 1
    attempts: int = 0  # claims: it fences, and names the file
    failures: int = 0  # transient errors of the inference service
    lost: int = 0  # claims whose lease ran out
    pinned: bool = False
    not_before: AwareDatetime | None = None
    lease: Lease | None = None
    error: Failure | None = None
    image_file: str | None = None
    thumbnail: str | None = None
    format: Format | None = None
    file_size: int | None = None  # bytes
    generation_time: float | None = None  # seconds
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    deleted_at: AwareDatetime | None = None
    buried_at: AwareDatetime | None = None
    slot: str | None = None
    idempotency: str | None = None
    request_hash: str | None = None
    sent_at: AwareDatetime | None = None
    event_due: EventDue | None = None
    traceparent: str | None = None


class Picture(Frozen):
    """What a worker has stored of one attempt; keys are the media's, sizes in bytes and pixels."""

    image_file: str
    thumbnail: str
    format: Format
    file_size: int
    width: int
    height: int
    generation_time: float


def new_image_id(now: datetime) -> str:
    """A UUIDv7 (RFC 9562, section 5.7): sorts by the millisecond it was made in."""
    milliseconds = int(now.timestamp() * 1000)
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def image_id(text: str) -> str:
    """The canonical form of an image's id.

    Raises:
        Invalid: the text is not a UUID.
    """
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text.lower():
        raise Invalid(f"an image id is a UUID, not {text[:50]!r}", code="invalid_id")
    return str(value)


def image_key(image: Image, image_format: Format) -> str:
    """Where this attempt's picture lies. Made from the record only, never from input."""
    return f"generated_images/{_file_name(image, image.attempts, image_format)}"


def thumbnail_key(image: Image, image_format: Format) -> str:
    return f"thumbnails/{_file_name(image, image.attempts, image_format)}"


def media_keys(image: Image) -> list[str]:
    """Every key that may hold something of this image: the recorded ones, and those of its other attempts."""
    recorded = [key for key in (image.image_file, image.thumbnail) if key]
    if image.status is Status.COMPLETED and image.attempts == 1:
        return recorded
    possible = (key for attempt in range(1, image.attempts + 1) for key in _keys_of(image, attempt))
    return list(dict.fromkeys([*recorded, *possible]))


def attempt_keys(image: Image) -> list[str]:
    """Every key that the attempt at hand may have written."""
    return _keys_of(image, image.attempts)


def _keys_of(image: Image, attempt: int) -> list[str]:
    return [
        f"{folder}/{_file_name(image, attempt, image_format)}"
        for folder in ("generated_images", "thumbnails")
        for image_format in Format
    ]


def _file_name(image: Image, attempt: int, image_format: Format) -> str:
    # the attempt is in the name, so that a late first attempt cannot touch what a second one wrote
    suffix = f"-{attempt}" if attempt > 1 else ""
    return f"{image.created_at:%Y/%m}/{image.id}{suffix}.{image_format.extension}"


def sent(image: Image, *, attempts: int, now: datetime) -> Image:
    """The broker has the command for good. Nothing to note once another claim has come in between."""
    if image.status.is_final or image.attempts != attempts:
        return image
    return _next(image, sent_at=now)


def claim(image: Image, *, lease: Lease, now: datetime, deadline: timedelta) -> Image:
    """Take the image for work: from the queue, or over from a worker whose lease ran out.

    Returns a failed image where its time is over or it has outlived too many workers.

    Raises:
        Refused: it is final (`wrong_state`), another's (`leased`), or its retry is not due yet (`too_early`).
    """
    _require_open(image)
    if now >= image.created_at + deadline:
        return past_deadline(image, now=now)
    if image.status is Status.RUNNING:
        if image.lease is not None and image.lease.token == lease.token:
            return image
        image = _lapsed(image, now)
    elif image.not_before is not None and image.not_before > now:
        raise Refused(f"image {image.id} is not due before {image.not_before}", status=image.status, code="too_early")
    if image.lost >= MAX_LOST:
        return _worker_lost(image, now)
    return _next(
        image,
        status=Status.RUNNING,
        lease=lease,
        attempts=image.attempts + 1,
        started_at=now,
        not_before=None,
    )


def renew(image: Image, *, lease: Lease, attempt: int) -> Image:
    """Believe the worker for longer: `lease.until` replaces the old one."""
    _require_lease(image, lease, attempt)
    return _next(image, lease=lease)


def complete(image: Image, *, lease: Lease, attempt: int, picture: Picture, now: datetime) -> Image:
    """The picture lies in the media: the record may point at it."""
    if image.status is Status.COMPLETED and image.image_file == picture.image_file:
        return image
    _require_lease(image, lease, attempt)
    return _final(image, Status.COMPLETED, now, error=None, **dict(picture))


def retry(
    image: Image,
    *,
    lease: Lease,
    attempt: int,
    error: Failure,
    not_before: datetime,
    counts: bool,
    now: datetime,
) -> Image:
    """Back to the queue after a transient error; the third that counts fails the image."""
    _require_lease(image, lease, attempt)
    failures = image.failures + counts
    if failures >= MAX_FAILURES:
        return _final(image, Status.FAILED, now, error=error, failures=failures)
    return _queued_again(image, not_before, error=error, failures=failures)


def give_back(image: Image, *, lease: Lease, attempt: int, now: datetime) -> Image:
    """A worker that must stop lets go of it: no failure counted."""
    _require_lease(image, lease, attempt)
    return _queued_again(image, now)


def lapse(image: Image, *, now: datetime) -> Image:
    """Give back what a dead worker held. Whether it has outlived too many is for the next claim, which has the order.

    Raises:
        Refused: it is not running, or its lease still holds (`leased`).
    """
    if image.status is not Status.RUNNING:
        raise _refused(image)
    image = _lapsed(image, now)
    return _queued_again(image, now, lost=image.lost)


def fail(image: Image, *, error: Failure, now: datetime, lease: Lease | None = None, attempt: int = 0) -> Image:
    """Fail it for good: by its worker with the lease, or from outside only where no live lease holds it."""
    _require_open(image)
    if lease is not None:
        _require_lease(image, lease, attempt)
    elif image.lease is not None and image.lease.until > now:
        raise Refused(f"image {image.id} is held by a live lease", status=image.status, code="leased")
    return _final(image, Status.FAILED, now, error=error)


def past_deadline(image: Image, *, now: datetime) -> Image:
    """Fail what was not delivered in time, whoever holds it."""
    _require_open(image)
    error = Failure(code="deadline", detail="it was not painted in time; order it again")
    return _final(image, Status.FAILED, now, error=error)


def cancel(image: Image, *, now: datetime) -> Image:
    """Final at once; the worker hears of it by event, or at its next renewal.

    Raises:
        Refused: it is final already.
    """
    _require_open(image)
    return _final(image, Status.CANCELLED, now)


def delete(image: Image, *, now: datetime) -> Image:
    """Gone for every reader at once, cancelled first if need be. Its event stands for a final one still due."""
    if image.deleted_at is not None:
        return image
    if not image.status.is_final:
        image = _final(image, Status.CANCELLED, now)
        image = image.model_copy(update={"revision": image.revision - 1})
    due = EventDue(type="image.deleted", revision=image.revision + 1, since=now)
    return _next(image, deleted_at=now, event_due=due, slot=None)


def bury(image: Image, *, now: datetime, announced: bool = False) -> Image:
    """Its files are gone: shrink the record to a tombstone, which keeps a repeat from bringing it back.

    `announced` says that the broker has confirmed the event that was due.
    """
    if image.deleted_at is None:
        raise _refused(image)
    if image.buried_at is not None:
        return image
    return _next(
        image,
        buried_at=now,
        event_due=None if announced else image.event_due,
        prompt="",
        negative_prompt="",
        image_file=None,
        thumbnail=None,
    )


def pin(image: Image, *, pinned: bool) -> Image:
    """Exempt from the purge, or no longer."""
    if image.pinned == pinned:
        return image
    return _next(image, pinned=pinned)


def forget_thumbnail(image: Image) -> Image:
    """Its thumbnail was lost: readers are shown the picture itself."""
    if image.thumbnail is None:
        return image
    return _next(image, thumbnail=None)


def event_published(image: Image, *, due: EventDue) -> Image:
    """The broker has confirmed the event that was due."""
    if image.event_due is None or image.event_due.revision != due.revision:
        return image
    return _next(image, event_due=None)


def _next(image: Image, **changes: Any) -> Image:
    return image.model_copy(update={**changes, "revision": image.revision + 1})


def _final(image: Image, status: Status, now: datetime, **changes: Any) -> Image:
    due = EventDue(type=f"image.{status}", revision=image.revision + 1, since=now)
    return _next(
        image,
        **{
            "status": status,
            "finished_at": now,
            "event_due": due,
            "lease": None,
            "slot": None,
            "not_before": None,
        }
        | changes,
    )


def _queued_again(image: Image, not_before: datetime, **changes: Any) -> Image:
    # sent_at is absent until a broker has confirmed the command of the coming attempt
    return _next(image, status=Status.QUEUED, lease=None, sent_at=None, not_before=not_before, **changes)


def _lapsed(image: Image, now: datetime) -> Image:
    if image.lease is not None and image.lease.until > now:
        raise Refused(f"image {image.id} is held by {image.lease.worker}", status=image.status, code="leased")
    return image.model_copy(update={"lost": image.lost + 1})


def _worker_lost(image: Image, now: datetime) -> Image:
    error = Failure(code=WORKER_LOST, detail=f"{image.lost} workers were lost while they painted it")
    return _final(image, Status.FAILED, now, error=error, lost=image.lost)


def _require_open(image: Image) -> None:
    if image.status.is_final:
        raise _refused(image)


def _require_lease(image: Image, lease: Lease, attempt: int) -> None:
    held = image.lease is not None and image.lease.token == lease.token and image.attempts == attempt
    if image.status is not Status.RUNNING or not held:
        raise Refused(f"image {image.id} is no longer this worker's", status=image.status, code="lease_lost")


def _refused(image: Image) -> Refused:
    return Refused(f"image {image.id} is {image.status}", status=image.status)
