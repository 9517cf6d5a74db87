"""How many orders of one owner fit into an hour. Pure: a window of times and image ids, and what may enter it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.domain.errors import LimitReached
from common.domain.images import Image, Status

HOUR: Final = timedelta(hours=1)
OWNERS_FAULT: Final = frozenset({"inference_refused"})  # any other failure is ours, and does not count


@dataclass(frozen=True, slots=True)
class Window:
    """The orders of the last hour, oldest first."""

    entries: tuple[tuple[datetime, str], ...] = ()

    def since(self, moment: datetime) -> Window:
        return Window(tuple(entry for entry in self.entries if entry[0] > moment))

    def without(self, image_ids: Collection[str]) -> Window:
        return Window(tuple(entry for entry in self.entries if entry[1] not in image_ids))

    @property
    def ids(self) -> list[str]:
        return [image_id for _, image_id in self.entries]


@dataclass(frozen=True, slots=True)
class QuotaState:
    """One limit and what is left of it: one more fits in `resets_in_s` seconds. A limit of 0 means no limit."""

    limit: int
    remaining: int
    resets_in_s: float


@dataclass(frozen=True, slots=True)
class OwnerQuotas:
    """The limits of one owner: images in an hour, and unfinished images at once."""

    hourly: QuotaState
    concurrent: QuotaState


def enter(window: Window, image_id: str, *, now: datetime, limit: int) -> Window:
    """The window with one more order in it; the same window where it is in already.

    Raises:
        LimitReached: it is full; says when the oldest order leaves it.
    """
    window = window.since(now - HOUR)
    if image_id in window.ids:
        return window
    if len(window.entries) >= limit:
        raise LimitReached(
            f"{limit} images in an hour are ordered already",
            code="hourly_limit",
            retry_after_s=frees_in_s(window, now=now, limit=limit),
        )
    return Window((*window.entries, (now, image_id)))


def frees_in_s(window: Window, *, now: datetime, limit: int) -> float:
    """Seconds until one more order fits; 0 where one fits now."""
    if len(window.entries) < limit:
        return 0
    leaves = window.entries[len(window.entries) - limit][0] + HOUR
    return max(0.0, (leaves - now).total_seconds())


def does_not_count(image: Image) -> bool:
    """A failure that is ours is not the owner's order."""
    return image.status is Status.FAILED and image.error is not None and image.error.code not in OWNERS_FAULT
