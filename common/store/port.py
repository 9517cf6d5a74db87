"""The record store. The docstrings are the contract that `tests/contract/store/` checks.

It keeps two kinds of document: images, and small named entries (quotas, timers, keys). Both change only by
compare-and-swap on `revision`, so two writers can never both win. The rules are in `common/domain/transitions.py`.

To add a query: a method here, the same in `mongo_queries.py` and `sqlite_queries.py`, a test in
`tests/contract/store/`. If it needs an index, it goes into `mongo_indexes.py` and `sqlite_schema.py`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from common.domain.errors import NotFound, Unavailable
from common.domain.images import Image, Status
from common.domain.pools import DEFAULT_POOL, PoolCounts
from common.domain.search import EVERYTHING, HistoryFilter, HistoryPosition

Transition = Callable[[Image], Image]

FREE_LOSSES: Final = 3
FIRST_BACK_OFF_S: Final = 0.005  # about what a write takes
MAX_BACK_OFF_S: Final = 0.25
MAX_LOSSES: Final = 50  # about 10 s


@dataclass(frozen=True, slots=True)
class Entry:
    """A small document beside the images; `revision` 1 is a new one. `data` is JSON without null."""

    kind: str
    key: str
    revision: int
    data: dict[str, Any]
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IndexedPage:
    """How many images were indexed, and the id of the last that was looked at; None at the end."""

    indexed: int
    last_id: str | None


class Store(Protocol):
    """Every method raises `Unavailable` if the store does not answer in time; a write may have happened nevertheless.

    Queries that return a list of images return the oldest first, at most `limit`, unless they say otherwise. A record
    that cannot be read (damaged, or written by a newer version) is left out of each list; asked for alone, it raises
    `Unreadable`. The same holds for entries.
    """

    async def insert(self, image: Image) -> None:
        """Store a new image durably. Inserting the same record again succeeds: the first answer may have been lost.

        Raises:
            Duplicate: another record has its id, idempotency or slot; `key` names the first of these.
        """

    async def get(self, image_id: str) -> Image | None:
        """The image with this id, also a deleted one or a tombstone."""

    async def replace(self, image: Image) -> bool:
        """Replace the record whose revision is one less; False if there is none, and nothing is changed.

        Raises:
            Duplicate: another record has its slot or idempotency; no transition causes this.
        """

    async def remove(self, image: Image) -> bool:
        """Delete the record if it has exactly this revision; True if it was deleted."""

    async def find_by_idempotency(self, idempotency: str) -> Image | None:
        """The image with this idempotency string, also a deleted one."""

    async def history(
        self,
        owner: str,
        statuses: Collection[Status],
        *,
        limit: int,
        offset: int = 0,
        after: HistoryPosition | None = None,
        where: HistoryFilter = EVERYTHING,
        oldest_first: bool = False,
    ) -> list[Image]:
        """Images of the owner with these statuses that the filter matches, newest first, without deleted ones.

        The order is that of turns or its reverse: by `created_at`, then the index in the batch, then id. An image that
        `index_for_search` has not reached yet is not found by a filter that needs the index.
        """

    async def count_history(
        self,
        owner: str,
        statuses: Collection[Status],
        *,
        where: HistoryFilter = EVERYTHING,
        limit: int | None = None,
    ) -> int:
        """The number of all images that `history` can return, counted up to the limit."""

    async def index_for_search(self, *, after_id: str, limit: int) -> IndexedPage:
        """Index those of the next `limit` images by id that an older release has stored without an index.

        Writes of this release do it themselves. Any number of processes may do this at the same time. A store that
        knows that no image is missing is at the end at once.
        """

    async def queued_pools(self) -> list[str]:
        """The pools of the queued images that do not wait, sorted."""

    async def queued_ids(self, now: datetime, *, limit: int, pool: str = DEFAULT_POOL) -> list[str]:
        """Ids of the images of the pool whose `queued_since` is not after `now`, sorted by `queued_since`, then id."""

    async def count_queued_before(
        self, moment: datetime, image_id: str, *, limit: int, pool: str = DEFAULT_POOL
    ) -> int:
        """The number of images of the pool before this `queued_since` and id, counted up to the limit."""

    async def dispatched_to(self, pool: str, *, limit: int) -> list[Image]:
        """Queued images of the pool that do not wait, sorted by `queued_since`, then id."""

    async def count_dispatched(self, *, limit: int, pool: str | None = DEFAULT_POOL) -> int:
        """The number of queued and running images of all owners that do not wait, up to the limit.

        Those of the pool; None counts all pools.
        """

    async def pool_counts(self, pool: str) -> PoolCounts:
        """Counts of the images of the pool that do not wait for their turn."""

    async def count_lined_up(self) -> int:
        """The number of images of all owners that wait for their turn."""

    async def count_pending_events(self) -> int:
        """The number of images with a pending event."""

    async def next_waiting(
        self, owner: str, *, now: datetime, limit: int, models: Collection[str] | None = None
    ) -> list[Image]:
        """Waiting images of the owner whose `not_before` is absent or not after `now`, in the order of their turns.

        Only those of these models, if any are named. The order is by `created_at`, then the index in the batch, then
        id. It does not take longer if images of other models wait.
        """

    async def waiting_models(self, owner: str) -> list[str]:
        """The models of the waiting images of the owner, sorted, each once."""

    async def waiting_line(self, owner: str, *, limit: int) -> dict[str, str]:
        """Ids of the waiting images of the owner with their models, in the order of their turns.

        A record need not be readable.
        """

    async def count_waiting(self, owner: str, *, limit: int) -> int:
        """The number of waiting images of the owner, counted up to the limit."""

    async def owners_waiting(self, *, after: str, limit: int) -> list[str]:
        """Owners that have waiting images and sort after this name, sorted."""

    async def waiting_overdue(self, created_before: datetime, *, limit: int) -> list[Image]:
        """Waiting images that were created before the time."""

    async def held_slots(self, slots: Collection[str]) -> set[str]:
        """Those of the slots that an image holds."""

    async def incomplete_batches(self, *, due_before: datetime, limit: int) -> list[Image]:
        """Images whose `batch_due` is before the time, sorted by it."""

    async def batch_members(self, batch_id: str) -> list[Image]:
        """All images of the batch, sorted by their index, also deleted ones and tombstones."""

    async def unsent(
        self, *, created_before: datetime, now: datetime, limit: int, pool: str = DEFAULT_POOL
    ) -> list[Image]:
        """Queued images of the pool that do not wait, without `sent_at`, created before the time, whose retry is due.

        It is due if `not_before` is absent or not after `now`.
        """

    async def sent_before(self, moment: datetime, *, limit: int, pool: str = DEFAULT_POOL) -> list[Image]:
        """Queued images of the pool that do not wait, with `sent_at` before the moment; `not_before` too, or absent."""

    async def latest_started_sent_at(self, pool: str = DEFAULT_POOL) -> datetime | None:
        """The latest `sent_at` of all images of the pool that were started at or after it."""

    async def running(self, *, limit: int) -> list[Image]:
        """Running images with a lease, expired or not, sorted by its `until`."""

    async def pending_events(self, *, since_before: datetime, limit: int) -> list[Image]:
        """Images whose pending event is older than the time, sorted by its age."""

    async def overdue(self, dispatched_before: datetime, *, limit: int) -> list[Image]:
        """Queued or running images that do not wait and were dispatched before the time, in any order.

        An image without `dispatched_at` was dispatched at `created_at`.
        """

    async def purgeable(self, created_before: datetime, *, limit: int) -> list[Image]:
        """Final images, neither pinned nor deleted, that were created before the time."""

    async def count_purgeable(self, created_before: datetime) -> int:
        """The number of all images that `purgeable` can return."""

    async def awaiting_tombstone(self, *, deleted_before: datetime, limit: int) -> list[Image]:
        """Images that were deleted before the time and are not tombstones yet, sorted by `deleted_at`."""

    async def tombstones(self, *, tombstoned_before: datetime, limit: int) -> list[Image]:
        """Tombstones made before the time, without a pending event, sorted by `tombstoned_at`."""

    async def get_several(self, ids: Collection[str]) -> dict[str, Image]:
        """The existing images with these ids, by id, also deleted ones and tombstones."""

    async def known_ids(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that have a record, also one that cannot be read."""

    async def completed(self, *, after_id: str, limit: int) -> list[Image]:
        """Completed images that are not deleted, with an id greater than `after_id`, sorted by id."""

    async def replace_several(self, images: Collection[Image]) -> set[str]:
        """`replace` for each, in as few writes as possible; the ids of the replaced. A `Duplicate` is skipped."""

    async def remove_several(self, images: Collection[Image]) -> int:
        """`remove` for each, in as few writes as possible; the number of deleted records."""

    async def get_entry(self, kind: str, key: str) -> Entry | None:
        """The entry with this key, also an expired one that is not removed yet."""

    async def list_entries(self, kind: str) -> list[Entry]:
        """All entries of this kind, sorted by key."""

    async def entries_after(self, kind: str, after: str, *, limit: int) -> list[Entry]:
        """Entries of this kind whose key sorts after the text (by code points), sorted by key."""

    async def put_entry(self, entry: Entry) -> bool:
        """Insert an entry of revision 1, or replace the one whose revision is one less; False if another writer won."""

    async def remove_entry(self, kind: str, key: str) -> bool:
        """Delete an entry; True if it existed, for exactly one of several callers."""

    async def remove_expired_entries(self, now: datetime) -> int:
        """Delete the entries whose `expires_at` is not after `now`; returns their number."""

    async def check(self) -> None:
        """Run a trivial query. Raises Unavailable."""


async def change(store: Store, image_id: str, transition: Transition, *, snapshot: Image | None = None) -> Image:
    """Apply a transition to the current record, and again for as long as another writer was faster.

    `snapshot` is the record as the caller last read it, and saves the first read: if it is out of date, its revision
    loses and the record is read. Only for transitions that neither reject an older record nor leave it unchanged.

    Raises:
        NotFound: there is no such record.
        InvalidTransition: raised by the transition; nothing is changed.
        Unavailable: other writers were faster for many seconds.
    """
    image = snapshot or await store.get(image_id)
    losses = 0
    while image is not None:
        changed = transition(image)
        if changed is image or await store.replace(changed):
            return changed
        losses += 1
        await back_off(losses)
        image = await store.get(image_id)
    raise NotFound(f"there is no image {image_id}", code="image_not_found")


async def back_off(losses: int) -> None:
    """Wait after a compare-and-swap that lost, so that the writers of one record stop meeting each other.

    The first losses cost nothing: they are usual, and the next try nearly always wins. Then the waits double up to
    a limit, each with a random part.

    Raises:
        Unavailable: too many losses; a record whose stored revision never matches would be tried for ever.
    """
    if losses > MAX_LOSSES:
        raise Unavailable("store", f"{losses} writes of one record in a row were overtaken")
    if losses > FREE_LOSSES:
        longest_s = min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** (losses - FREE_LOSSES - 1))
        await asyncio.sleep(random.uniform(longest_s / 2, longest_s))
