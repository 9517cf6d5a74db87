"""What the server answers with.

Made by `make client-models` from the models of the server; not edited by hand.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from darkroom_client.reading import EPOCH, Id, Model


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Parameters(Model):
    steps: int = 0
    cfg_scale: float = 0.0
    sampler: str = ""
    seed: int = 0
    hires_fix: bool = False


class Failure(Model):
    code: str = ""
    detail: str = ""


class Batch(Model):
    """The place of an image among the `count` images of one request; `index` begins with 0."""

    id: str
    index: int = 0
    count: int = 0


class ImageFields(Model):
    """An image with what it waits for. No event carries these: they would soon be wrong."""

    id: Id
    status: Status
    prompt: str = ""
    negative_prompt: str = ""
    model_used: str = ""
    width: int = 0
    height: int = 0
    parameters: Parameters = Parameters()
    image_url: str | None = None
    thumbnail_url: str | None = None
    format: str | None = None
    file_size: int | None = None
    generation_time: float | None = None
    attempts: int = 0
    failures: int = 0
    error: Failure | None = None
    pinned: bool = False
    created_at: datetime = EPOCH
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retry_at: datetime | None = None
    expires_at: datetime | None = None
    waiting_since: datetime | None = None
    dispatched_at: datetime | None = None
    batch: Batch | None = None
    queue_place: int | None = None
    waiting_for: str | None = None
    queue_place_estimated: bool = False
    estimated_seconds: float | None = None


class HistoryItem(Model):
    id: Id
    status: Status
    prompt: str = ""
    image_url: str | None = None
    thumbnail_url: str | None = None
    model_used: str = ""
    width: int = 0
    height: int = 0
    pinned: bool = False
    created_at: datetime = EPOCH
    batch: Batch | None = None


class HistoryPage(Model):
    images: list[HistoryItem] = []
    total: int = 0
    total_is_capped: bool = False
    page: int = 0
    per_page: int = 0
    next_cursor: str | None = None


class OfferedModel(Model):
    id: str
    name: str = ""
    samplers: list[str] = []
    max_width: int | None = None
    max_height: int | None = None
    max_steps: int | None = None
    grid: int | None = None
    hires_fix: bool = False
    negative_prompt: bool = False
    live: bool = False


class Offers(Model):
    """What can be requested. `known` is false if no generator lists its models: then any model can be requested."""

    features: list[str] = []
    known: bool = False
    engine: str | None = None
    notice: str | None = None
    models: list[OfferedModel] = []
    defaults: dict[str, str | int | float | bool] = {}


class Limit(Model):
    """`remaining` of `limit` are left; one more in `resetsIn` seconds. A `limit` of 0 means no limit."""

    limit: int = 0
    remaining: int = 0
    resets_in: float = 0.0


class Limits(Model):
    """`concurrent` images are sent or painted at once, `waiting` more may wait; it is null if none may wait."""

    hourly: Limit = Limit()
    concurrent: Limit = Limit()
    waiting: Limit | None = None


class Image(ImageFields):
    """An image: its request, its state and, when it is completed, where its picture is."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status not in {Status.QUEUED, Status.RUNNING}

    @property
    def is_completed(self) -> bool:
        """Whether its picture can be downloaded."""
        return self.status == Status.COMPLETED

    @property
    def file_name(self) -> str:
        """`<id>.<extension>`, for the file of its picture."""
        return f"{self.id}.{'jpg' if self.format == 'jpeg' else self.format or 'png'}"
