"""The hourly quota of one owner, as a sliding window of pure functions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.domain.errors import LimitReached
from common.domain.images import Image, Status

HOUR: Final = timedelta(hours=1)
OWNER_ERRORS: Final = frozenset({"inference_refused"})  # any other failure is the service's, and does not count


@dataclass(frozen=True, slots=True)
class Window:
    """The counted images of the last hour, as (time, image id), oldest first."""

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


def reserve(window: Window, image_id: str, *, now: datetime, limit: int) -> Window:
    """The window with this image counted; unchanged if the image is counted already.

    Raises:
        LimitReached: the window is full; `retry_after_s` says when the oldest image leaves it.
    """
    window = window.since(now - HOUR)
    if image_id in window.ids:
        return window
    if len(window.entries) >= limit:
        raise LimitReached(
            f"the limit of {limit} images in an hour is reached",
            code="hourly_limit",
            retry_after_s=available_in_s(window, now=now, limit=limit),
        )
    return Window((*window.entries, (now, image_id)))


def available_in_s(window: Window, *, now: datetime, limit: int) -> float:
    """Seconds until one more image fits; 0 if one fits now."""
    if len(window.entries) < limit:
        return 0
    leaves = window.entries[len(window.entries) - limit][0] + HOUR
    return max(0.0, (leaves - now).total_seconds())


def does_not_count(image: Image) -> bool:
    """Whether the image failed by a fault of the service, which is not counted against the owner."""
    return image.status is Status.FAILED and image.error is not None and image.error.code not in OWNER_ERRORS
