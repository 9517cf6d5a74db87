"""The record of one image.

How a record changes is in `common/domain/transitions.py`.
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from common.domain.errors import Invalid
from common.domain.pools import DEFAULT_POOL
from common.domain.texts import clean_code, clean_text


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
ALLOWED_NEXT: Final[dict[Status, frozenset[Status]]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLED}),
    Status.RUNNING: frozenset(Status),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


RENDITION_WIDTHS: Final = (512, 1024)  # pixels; a few fixed ones, so that the files of a picture are bounded
_RENDITION: Final = re.compile(rf"renditions/(?P<name>[^.]+\.[a-z]+)\.(?:{'|'.join(map(str, RENDITION_WIDTHS))})\.webp")
HTTP_SOURCE: Final = "api"  # the source of the images that are requested over HTTP


class Format(StrEnum):
    """The file formats of a picture; the value is Pillow's name in lower case."""

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
    """The lease of the worker that holds the image; the token is random for each claim."""

    token: str
    worker: str
    until: AwareDatetime
    length_s: float | None = None  # renewed after every third of it
    backend: str | None = None  # the name of the worker's back end that paints the image


class Failure(Frozen):
    """Why an image failed, or why its last attempt did; `code` is stable. The text may come from another service."""

    code: Annotated[str, AfterValidator(clean_code)]
    detail: Annotated[str, BeforeValidator(clean_text)]  # before: pydantic refuses lone surrogates


class Batch(Frozen):
    """The place of an image among the `count` images of one request; `index` begins with 0."""

    id: str
    index: int
    count: int


class PendingEvent(Frozen):
    """An event that still has to be published; kept on the record until the broker has confirmed it."""

    type: str
    revision: int
    since: AwareDatetime


class Image(Frozen):
    """One image, from the request to the tombstone. A field without a value is absent from the document.

    An alias is the name of a field in the stored document, if it differs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

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
    attempts: int = 0  # claims; part of the fencing token and of the file's name
    failures: int = 0  # transient errors of the inference service
    lost: int = 0  # claims whose lease expired
    refused: int = 0  # runs of the inference service without a usable picture; part of the id of the next run
    pinned: bool = False
    not_before: AwareDatetime | None = None
    lease: Lease | None = None
    backend: str | None = None  # that of the lease before, which may have the work still; absent if that is over
    error: Failure | None = None
    image_file: str | None = None
    thumbnail: str | None = None
    wanted_format: Format | None = None  # the client's, asked of the inference service; `format` is what came
    format: Format | None = None
    file_size: int | None = None  # bytes
    generation_time: float | None = None  # seconds
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    deleted_at: AwareDatetime | None = None
    tombstoned_at: Annotated[AwareDatetime | None, Field(alias="buried_at")] = None
    slot: str | None = None
    idempotency: str | None = None
    request_hash: str | None = None
    waiting_since: AwareDatetime | None = None  # present while the image waits for its turn and may not be painted
    dispatched_at: AwareDatetime | None = None  # absent on records of older releases, which had no turns
    sent_at: AwareDatetime | None = None
    pool: str | None = None  # to which its command goes, if it does not wait; absent: `default`
    batch: Batch | None = None
    batch_due: AwareDatetime | None = None  # on the first of a batch, until the others are on record
    pending_event: Annotated[PendingEvent | None, Field(alias="event_due")] = None
    traceparent: str | None = None
    webhook: str | None = None  # the address to which the events of the image are sent

    def is_from(self, *, source: str, owner: str | None) -> bool:
        """Whether a message of this sender may act on the image: it names the source and the owner of the record."""
        return self.source == source and self.owner == owner

    def may_be_cancelled_by(self, *, source: str, owner: str | None) -> bool:
        """Whether a cancel of this sender counts. A publisher may leave out the owner of an image that it requested.

        For an image requested over HTTP the owner is required: every publisher knows the source of these images.
        """
        if owner is None:
            return self.source == source and source != HTTP_SOURCE
        return self.is_from(source=source, owner=owner)

    @property
    def last_backend(self) -> str | None:
        """The back end that may have work of this image; the next claim asks it first."""
        return self.lease.backend if self.lease is not None else self.backend

    @property
    def work_pool(self) -> str:
        """The pool to which the command of the dispatched image was sent, or is to be sent."""
        return self.pool or DEFAULT_POOL

    @property
    def is_waiting(self) -> bool:
        """Whether the image waits for its turn: it is on record and queued, but may not be painted yet."""
        return self.waiting_since is not None

    @property
    def queued_since(self) -> datetime | None:
        """When the image entered the queue, or when its retry is due; None if it is not queued, or waits for a turn."""
        if self.status is not Status.QUEUED or self.is_waiting:
            return None
        return self.not_before or self.dispatched_at or self.created_at


class Picture(Frozen):
    """The stored result of one attempt; `image_file` and `thumbnail` are media keys, `file_size` is in bytes."""

    image_file: str
    thumbnail: str
    format: Format
    file_size: int
    width: int
    height: int
    generation_time: float


def new_image_id(now: datetime) -> str:
    """A UUIDv7 (RFC 9562, section 5.7), which sorts by its creation time in milliseconds."""
    milliseconds = int(now.timestamp() * 1000)
    value = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def parse_image_id(text: str) -> str:
    """The canonical form of an image id.

    Raises:
        Invalid: the text is not a UUID.
    """
    try:
        value = UUID(text)
    except ValueError:
        value = None
    if value is None or str(value) != text.lower():
        raise Invalid(f"an image id must be a UUID, not {text[:50]!r}", code="invalid_id")
    return str(value)


def canonical_image_id(text: str) -> str:
    """The canonical form of an image id; any other text is returned unchanged, for a handler that refuses it."""
    try:
        return parse_image_id(text)
    except Invalid:
        return text


def image_key(image: Image, image_format: Format) -> str:
    """The media key of this attempt's picture, made from the record only, never from input."""
    return f"generated_images/{_file_name(image, image.attempts, image_format)}"


def thumbnail_key(image: Image, image_format: Format) -> str:
    return f"thumbnails/{_file_name(image, image.attempts, image_format)}"


def rendition_keys(image: Image) -> list[str]:
    """The keys of the smaller copies of the picture, in the order of their widths; made when first asked for."""
    folder, _, name = (image.image_file or "").partition("/")
    return [f"renditions/{name}.{width}.webp" for width in RENDITION_WIDTHS] if folder == "generated_images" else []


def picture_key_of(key: str) -> str:
    """The key of the picture that a rendition is made from; any other key is returned unchanged."""
    match = _RENDITION.fullmatch(key)
    return f"generated_images/{match['name']}" if match else key


def media_keys(image: Image) -> list[str]:
    """Every key that may hold a file of this image: the recorded keys, renditions, and those of its other attempts."""
    recorded = [*(key for key in (image.image_file, image.thumbnail) if key), *rendition_keys(image)]
    if image.status is Status.COMPLETED and image.attempts == 1:
        return recorded
    possible = (key for attempt in range(1, image.attempts + 1) for key in _keys_of(image, attempt))
    return list(dict.fromkeys([*recorded, *possible]))


def attempt_keys(image: Image) -> list[str]:
    """Every key that the current attempt may have written."""
    return _keys_of(image, image.attempts)


def _keys_of(image: Image, attempt: int) -> list[str]:
    return [
        f"{folder}/{_file_name(image, attempt, image_format)}"
        for folder in ("generated_images", "thumbnails")
        for image_format in Format
    ]


def _file_name(image: Image, attempt: int, image_format: Format) -> str:
    # the attempt is part of the name, so that a late first attempt cannot overwrite the file of the second
    suffix = f"-{attempt}" if attempt > 1 else ""
    # older releases recorded the id of a bus order as it was written, also in capitals; a media key has none
    return f"{image.created_at:%Y/%m}/{image.id.lower()}{suffix}.{image_format.extension}"
