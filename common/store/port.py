"""What a record store does for Darkroom. The docstrings are the contract that `tests/contract/store/` runs.

It keeps two kinds of document: images, and small named entries (quotas, timers, keys). Both change by
compare-and-swap on `revision` and in no other way, so two writers can never both win. The rules live in the moves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from common.domain.errors import NotFound
from common.domain.images import Image, Status

Transition = Callable[[Image], Image]


@dataclass(frozen=True, slots=True)
class Entry:
    """A small document of the house itself; `revision` 1 is a new one. `data` is JSON and holds no null."""

    kind: str
    key: str
    revision: int
    data: dict[str, Any]
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HistoryPosition:
    """Where a page of the history begins: after the image of this time and id, newest first."""

    created_at: datetime
    id: str


class Store(Protocol):
    """Every method raises `Unavailable` when the store does not answer in time; a write may then have happened."""

    async def insert(self, image: Image) -> None:
        """Keep a new image, durably. The very same record again is a success: its first answer may have been lost.

        Raises:
            Duplicate: its id, idempotency or slot is taken; `key` says which, the first of these where several are.
        """

    async def get(self, image_id: str) -> Image | None: ...

    async def replace(self, image: Image) -> bool:
        """Replace the record whose revision is one less; False if there is none, and nothing has changed.

        Raises:
            Duplicate: it asks for a slot or an idempotency that is taken; no move does.
        """

    async def remove(self, image: Image) -> bool:
        """Drop the record of exactly this revision, for good."""

    async def find_by_idempotency(self, idempotency: str) -> Image | None:
        """The image of this idempotency string, a deleted one too."""

    async def history(
        self,
        owner: str,
        statuses: Collection[Status],
        *,
        limit: int,
        offset: int = 0,
        after: HistoryPosition | None = None,
    ) -> list[Image]:
        """Images of the owner in these states, newest first by (created_at, id), without the deleted."""

    async def count_history(self, owner: str, statuses: Collection[Status]) -> int:
        """How many images `history` could show in all."""

    async def waiting_ids(self, now: datetime, *, limit: int) -> list[str]:
        """Ids of the queued images whose `waits_since` has come: who waits longest first, then by id."""

    async def count_waiting_before(self, moment: datetime, image_id: str, *, limit: int) -> int:
        """How many stand before a queued image of this `waits_since` and id; counts no further than the limit."""

    async def unsent(self, *, created_before: datetime, now: datetime, limit: int) -> list[Image]:
        """Queued, no `sent_at`, older than that, `not_before` absent or come; oldest first."""

    async def sent_before(self, moment: datetime, *, limit: int) -> list[Image]:
        """Queued with a `sent_at` before the moment, and `not_before` absent or before it; oldest first."""

    async def latest_started_sent_at(self) -> datetime | None:
        """The latest `sent_at` of an image that a worker has taken since it was sent."""

    async def running(self, *, limit: int) -> list[Image]:
        """Running under a lease, whether it has run out or not; by its `until`."""

    async def pending_events(self, *, since_before: datetime, limit: int) -> list[Image]:
        """With an event due since before that."""

    async def overdue(self, created_before: datetime, *, limit: int) -> list[Image]:
        """Queued or running, and older than that."""

    async def purgeable(self, created_before: datetime, *, limit: int) -> list[Image]:
        """Final, not pinned, not deleted, and older than that; oldest first."""

    async def count_purgeable(self, created_before: datetime) -> int: ...

    async def awaiting_tombstone(self, *, deleted_before: datetime, limit: int) -> list[Image]:
        """Deleted before that, and not yet a tombstone."""

    async def tombstones(self, *, tombstoned_before: datetime, limit: int) -> list[Image]:
        """Tombstones older than that, of which no event is due."""

    async def get_several(self, ids: Collection[str]) -> dict[str, Image]:
        """Those of the ids that are on record, tombstones too."""

    async def completed(self, *, after_id: str, limit: int) -> list[Image]:
        """Completed and not deleted, by id, those after `after_id`."""

    async def replace_several(self, images: Collection[Image]) -> set[str]:
        """`replace` for each, in as few writes as the store allows; the ids of those replaced."""

    async def remove_several(self, images: Collection[Image]) -> int:
        """`remove` for each, in as few writes as the store allows; how many were removed."""

    async def get_entry(self, kind: str, key: str) -> Entry | None: ...

    async def list_entries(self, kind: str) -> list[Entry]: ...

    async def put_entry(self, entry: Entry) -> bool:
        """Insert an entry of revision 1, or replace the one whose revision is one less; False if it lost."""

    async def remove_entry(self, kind: str, key: str) -> bool:
        """Drop an entry; True if it was there, for exactly one of several callers."""

    async def remove_expired_entries(self, now: datetime) -> int:
        """Drop the entries whose `expires_at` has come; how many."""

    async def check(self) -> None:
        """Answer a trivial question. Raises Unavailable."""


async def change(store: Store, image_id: str, transition: Transition, *, snapshot: Image | None = None) -> Image:
    """Apply a move to the record as it is now, again for as long as another writer was faster.

    `snapshot` is the record as the caller last saw it, and spares the first look: where it is out of date its revision
    loses, and it is read. Only for moves that an older record neither refuses nor leaves alone.

    Raises:
        NotFound: there is no such record.
        InvalidTransition: by the move; nothing has changed.
    """
    image = snapshot or await store.get(image_id)
    while image is not None:
        changed = transition(image)
        if changed is image or await store.replace(changed):
            return changed
        image = await store.get(image_id)
    raise NotFound(f"there is no image {image_id}", code="image_not_found")
