"""The figures of a deployment: one entry of the store, written by a janitor, read by every janitor and api.

    the janitor that has the tick ─▶ counts ─▶ the entry ─▶ `/metrics` of each janitor, `/status` of each api

The size of the entry is bounded: it has a few numbers for each queue and each pool.
"""

from __future__ import annotations

import logging
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from common.domain.errors import Unreadable
from common.store.port import Entry, Store

log = logging.getLogger(__name__)

KIND: Final = "figures"
KEY: Final = "current"
MAX_POOLS: Final = 100  # 150 bytes each; MongoDB's limit of a document is 16 MB


class _Stored(BaseModel):
    """An older reader ignores the fields that a newer janitor writes."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class QueueFigures(_Stored):
    """`oldest_sent_at` is absent if the queue is empty, or its messages belong to no record."""

    messages: int
    oldest_sent_at: AwareDatetime | None = None


class PoolFigures(_Stored):
    """`owners_without_generator` have images that wait because no generator of the pool is alive."""

    queued: int = 0
    running: int = 0
    unsent: int = 0
    generators: int = 0
    owners_without_generator: int = 0


class MediaFigures(_Stored):
    """Counted less often than the rest, since every file is looked at; `took_s` is how long that took."""

    files: int
    bytes: int
    counted_at: AwareDatetime
    took_s: float = 0.0


class Figures(_Stored):
    """A missing figure could not be counted; the others can be right all the same."""

    gathered_at: AwareDatetime
    queues: dict[str, QueueFigures] = {}
    pools: dict[str, PoolFigures] = {}
    lined_up: int = 0
    pending_events: int = 0
    dead_letters: int | None = None
    next_purge: AwareDatetime | None = None
    media: MediaFigures | None = None


async def read_figures(store: Store, *, remove_damaged: bool = False) -> tuple[Figures | None, int]:
    """The latest figures and the revision of their entry.

    None with 0 if there is none or it is damaged, None with its revision if a newer janitor wrote it.
    """
    try:
        entry = await store.get_entry(KIND, KEY)
    except Unreadable as error:
        if remove_damaged:
            log.warning("the figures are gathered again: %s", error)
            await store.remove_entry(KIND, KEY)
        return None, 0
    if entry is None:
        return None, 0
    try:
        return Figures.model_validate(entry.data), entry.revision
    except ValidationError:  # of a newer janitor: the next one overwrites it
        return None, entry.revision


async def write_figures(store: Store, figures: Figures, *, revision: int) -> bool:
    """False if another janitor has written its own meanwhile, which are as new."""
    data = figures.model_dump(mode="json", exclude_none=True)
    return await store.put_entry(Entry(KIND, KEY, revision, data))
