"""The hourly quota of one owner, as a sliding window of pure functions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from common.domain.errors import LimitReached
from common.domain.images import Image, Status

HOUR: Final = timedelta(hours=1)
OWNER_ERRORS: Final = frozenset({"inference_refused"})  # any other failure is the service's, and does not count


Entries = tuple[tuple[datetime, str], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The images of the last hour, as (time, image id), oldest first: those that count, and the forgiven ones."""

    entries: Entries = ()
    forgiven: Entries = ()

    def since(self, moment: datetime) -> Window:
        entries, forgiven = (
            tuple(entry for entry in each if entry[0] > moment) for each in (self.entries, self.forgiven)
        )
        return Window(entries, forgiven)

    def without(self, image_ids: Collection[str]) -> Window:
        return replace(self, entries=tuple(entry for entry in self.entries if entry[1] not in image_ids))

    def forgive(self, image_ids: Collection[str], *, limit: int) -> Window:
        """No longer count these images. At most `limit` are forgiven in an hour, the oldest first.

        A failed image may have been painted, and an owner may know how to make one fail: so an hour has at most twice
        the limit.
        """
        found = [entry for entry in self.entries if entry[1] in image_ids]
        forgiven = found[: max(0, limit - len(self.forgiven))]
        return replace(self.without({image_id for _, image_id in forgiven}), forgiven=(*self.forgiven, *forgiven))

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
    """The limits of one owner: images in an hour, images dispatched at once, images waiting (None: none may wait)."""

    hourly: QuotaState
    concurrent: QuotaState
    waiting: QuotaState | None


def reserve(window: Window, *image_ids: str, now: datetime, limit: int) -> Window:
    """The window with these images counted, all or none; those that are counted already stay as they are.

    Raises:
        LimitReached: not all fit; `retry_after_s` says when enough of the oldest images have left the window.
    """
    window = window.since(now - HOUR)
    counted = set(window.ids)
    new = [image_id for image_id in image_ids if image_id not in counted]
    if len(window.entries) + len(new) > limit and new:
        left = max(0, limit - len(window.entries))
        are_left = f"; {left} are left, and {len(new)} are requested" if left else ""
        raise LimitReached(
            f"the limit of {limit} images in an hour is reached{are_left}",
            code="hourly_limit",
            left=left,
            retry_after_s=available_in_s(window, now=now, limit=limit, count=len(new)),
        )
    return replace(window, entries=(*window.entries, *((now, image_id) for image_id in new)))


def available_in_s(window: Window, *, now: datetime, limit: int, count: int = 1) -> float:
    """Seconds until so many more images fit, at most as many as the limit; 0 if they fit now."""
    leaving = len(window.entries) + count - limit
    if leaving <= 0:
        return 0
    leaves = window.entries[min(leaving, len(window.entries)) - 1][0] + HOUR
    return max(0.0, (leaves - now).total_seconds())


def does_not_count(image: Image) -> bool:
    """Whether the image failed by a fault of the service, which is not counted against the owner."""
    return image.status is Status.FAILED and image.error is not None and image.error.code not in OWNER_ERRORS
