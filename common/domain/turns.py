"""The limits on an owner's images: how many may be dispatched at once, how many more may wait for their turn.

Each limit is a set of unique keys, held by the records in their field `slot`: so it is exact over any number of
replicas, and no key can leak.

    <owner>:0, <owner>:1     a dispatched image: its command is sent, or it is being painted
    <owner>:w0, …            a waiting image that was requested over HTTP
    <owner>:p0, …            a waiting image that was requested by a publisher
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from common.domain.images import Image, PendingEvent
from common.domain.pools import DEFAULT_POOL, stored_pool


@dataclass(frozen=True, slots=True)
class Line:
    """The limits of one way by which requests come; a limit of 0 means no limit.

    `slots` images of an owner may be dispatched at once; `places` more may wait, None if none may. `mark` begins the
    keys of the places.
    """

    slots: int
    places: int | None
    mark: Literal["w", "p"]

    def slot_keys(self, owner: str) -> list[str]:
        return slot_keys(owner, self.slots)

    def place_keys(self, owner: str) -> list[str]:
        return [f"{owner}:{self.mark}{number}" for number in range(self.places or 0)]

    def can_ever_take(self, count: int) -> bool:
        """Whether a request for so many images fits while the owner has no other."""
        return self.slots == 0 or self.places == 0 or count <= self.slots + (self.places or 0)


def slot_keys(owner: str, slots: int) -> list[str]:
    return [f"{owner}:{number}" for number in range(slots)]


def free_keys(keys: Sequence[str], held: set[str]) -> list[str]:
    return [key for key in keys if key not in held]


def dispatched(image: Image, *, slot: str | None, pool: str = DEFAULT_POOL) -> Image:
    """A new image as it is recorded if it is dispatched at once, to this pool."""
    return image.model_copy(update={"slot": slot, "pool": stored_pool(pool), "dispatched_at": image.created_at})


def waiting(image: Image, *, place: str | None) -> Image:
    """A new image as it is recorded if it waits; `image.queued` is pending, as no command follows at once."""
    pending = PendingEvent(type="image.queued", revision=image.revision, since=image.created_at)
    return image.model_copy(update={"slot": place, "waiting_since": image.created_at, "pending_event": pending})
