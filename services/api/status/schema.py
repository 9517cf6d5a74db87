"""The models of the answers to operators; the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from common.domain.views import Outgoing, Time


class PartStatus(Outgoing):
    """`reason` says why the part cannot be used; `warning` is what to correct although it can."""

    name: Annotated[str, Field(description="`bus`, `store`, `media` or `events`")]
    ready: bool
    reason: str = ""
    warning: str = ""


class QueueStatus(Outgoing):
    name: str
    messages: int
    oldest_age: Annotated[float | None, Field(description="Seconds since the oldest command was sent")] = None


class PoolStatus(Outgoing):
    name: str
    queued: int
    running: int
    unsent: int
    generators: int
    owners_without_generator: Annotated[
        int, Field(description="Owners with images that wait because the pool has no live generator")
    ] = 0


class BackEndStatus(Outgoing):
    name: str | None
    dialect: str | None
    circuit: str
    concurrency: int | None


class GeneratorStatus(Outgoing):
    pool: str
    version: str
    concurrency: int
    backends: list[BackEndStatus]


class StorageStatus(Outgoing):
    files: int
    bytes: int
    age: Annotated[float, Field(description="Seconds since the files were counted")]


class StatusReport(Outgoing):
    """`queues`, `pools`, `storage` and the counts are those that a janitor has gathered `age` seconds ago.

    `age` is null, and they are empty, until a janitor has gathered them. `pictures` are the completed images of each
    of the last ten minutes, oldest first, and `failures` the failed ones of the same time by code, as this replica has
    read them from the event log.
    """

    time: Time
    version: str
    parts: list[PartStatus]
    age: float | None
    generators: list[GeneratorStatus]
    pools: list[PoolStatus]
    queues: list[QueueStatus]
    lined_up: int | None
    pending_events: int | None
    dead_letters: int | None
    storage: StorageStatus | None
    next_purge: Time | None
    pictures: list[int]
    pictures_per_minute: Annotated[float, Field(description="The mean of the last five minutes")]
    failures: dict[str, int]


class DeadLetterStatus(Outgoing):
    id: str
    died_at: Time | None
    queue: str
    reason: str


class DeadLetterContent(DeadLetterStatus):
    """`body` is the text of the message; it may hold a prompt."""

    body: str


class DeadLetterList(Outgoing):
    """The oldest dead letters, at most a hundred."""

    dead_letters: list[DeadLetterStatus]


class Redriven(Outgoing):
    """`imageId` is that of the image that was requested again; null if the message itself was delivered again."""

    image_id: str | None


class TickPublished(Outgoing):
    """No janitor has reported in time; the run is not cancelled."""

    published: bool = True
