"""The queries about images in the MongoDB store. Their contract is in `common/store/port.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from datetime import UTC, datetime
from typing import Final, TypeVar

from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError, PyMongoError

from common.domain.errors import Unavailable
from common.domain.images import FINAL, Image, Status
from common.domain.pools import DEFAULT_POOL, PoolCounts, stored_pool
from common.domain.search import EVERYTHING, HistoryFilter, HistoryPosition
from common.store import mongo_search
from common.store.documents import Document, in_turn, read_image, read_page, readable

T = TypeVar("T")
Sort = list[tuple[str, int]]


_LONGEST_QUEUED: Final = [("waits_since", ASCENDING), ("id", ASCENDING)]
EPOCH: Final = datetime.fromtimestamp(0, UTC)  # before every time of a record
_TURNS: Final = [("created_at", ASCENDING), ("batch.index", ASCENDING), ("id", ASCENDING)]


class MongoQueries:
    """Reads images; `MongoStore` writes them."""

    def __init__(self, database: AsyncIOMotorDatabase[Document], *, timeout_s: float) -> None:
        self._database = database
        self._images = database["images"]
        self._entries = database["entries"]
        self._timeout_s = timeout_s

    async def get(self, image_id: str) -> Image | None:
        return await self._one({"_id": image_id})

    async def find_by_idempotency(self, idempotency: str) -> Image | None:
        return await self._one({"idempotency": idempotency})

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
        query = mongo_search.condition(owner, statuses, where)
        if after is not None:
            mongo_search.add_position(query, after, oldest_first=oldest_first)
        way = ASCENDING if oldest_first else DESCENDING
        in_order = [(field, way) for field, _ in _TURNS]
        return await self._page(query, in_order, limit=limit, offset=offset)

    async def count_history(
        self,
        owner: str,
        statuses: Collection[Status],
        *,
        where: HistoryFilter = EVERYTHING,
        limit: int | None = None,
    ) -> int:
        # covered by the index without a filter; linear, but retention and the hourly limit bound the images of an owner
        query = mongo_search.condition(owner, statuses, where)
        if limit is None:
            return await self._answer(self._images.count_documents(query))
        return await self._answer(self._images.count_documents(query, limit=limit))

    async def queued_pools(self) -> list[str]:
        queued = {"waits_since": {"$exists": True}}
        of_default = await self._answer(self._images.find_one({**queued, "pool": None}, projection={"_id": True}))
        return sorted([*await self._each_once("pool", queued), *([DEFAULT_POOL] if of_default else ())])

    async def queued_ids(self, now: datetime, *, limit: int, pool: str = DEFAULT_POOL) -> list[str]:
        query = {"pool": stored_pool(pool), "waits_since": {"$lte": now}}
        covered = {"_id": False, "id": True}  # by the index
        cursor = self._images.find(query, projection=covered, sort=_LONGEST_QUEUED, limit=limit)
        return [document["id"] for document in await self._answer(cursor.to_list(None)) if "id" in document]

    async def count_queued_before(
        self, moment: datetime, image_id: str, *, limit: int, pool: str = DEFAULT_POOL
    ) -> int:
        query = {
            "pool": stored_pool(pool),
            "waits_since": {"$lte": moment},
            "$or": [{"waits_since": {"$lt": moment}}, {"id": {"$lt": image_id}}],
        }
        return await self._answer(self._images.count_documents(query, limit=limit))

    async def dispatched_to(self, pool: str, *, limit: int) -> list[Image]:
        query = {"pool": stored_pool(pool), "waits_since": {"$exists": True}}
        return await self._page(query, _LONGEST_QUEUED, limit=limit)

    async def count_dispatched(self, *, limit: int, pool: str | None = DEFAULT_POOL) -> int:
        of_pool = {} if pool is None else {"pool": stored_pool(pool)}
        count = 0
        for status in (Status.RUNNING, Status.QUEUED):  # one by one: each has an index of its own
            if count < limit:
                query = {"status": status.value, "waiting_since": None, **of_pool}
                count += await self._answer(self._images.count_documents(query, limit=limit - count))
        return count

    async def pool_counts(self, pool: str) -> PoolCounts:
        queued, sent = _in_pool_queue(pool), [("sent_at", ASCENDING)]
        counts = [
            await self._answer(self._images.count_documents(query))
            for query in (queued, {**queued, "status": Status.RUNNING.value}, {**queued, "sent_at": None})
        ]
        oldest = await self._answer(self._images.find_one({**queued, "sent_at": {"$gt": EPOCH}}, sort=sent))
        return PoolCounts(counts[0], counts[1], counts[2], oldest["sent_at"] if oldest else None)

    async def count_lined_up(self) -> int:
        return await self._answer(self._images.count_documents({"waiting_since": {"$exists": True}}))

    async def count_pending_events(self) -> int:
        return await self._answer(self._images.count_documents({"event_due.since": {"$exists": True}}))

    async def next_waiting(
        self, owner: str, *, now: datetime, limit: int, models: Collection[str] | None = None
    ) -> list[Image]:
        query = {**_waiting(owner), "$or": [{"not_before": None}, {"not_before": {"$lte": now}}]}
        if models is None:
            return await self._page(query, _TURNS, limit=limit)
        pages = [await self._page({**query, "model": model}, _TURNS, limit=limit) for model in models]
        return in_turn(image for page in pages for image in page)[:limit]

    async def waiting_models(self, owner: str) -> list[str]:
        return await self._each_once("model", _waiting(owner))

    async def waiting_line(self, owner: str, *, limit: int) -> dict[str, str]:
        covered = {"_id": False, "id": True, "model": True}  # by the index
        cursor = self._images.find(_waiting(owner), projection=covered, sort=_TURNS, limit=limit)
        found = await self._answer(cursor.to_list(None))
        return {document["id"]: str(document.get("model")) for document in found if "id" in document}

    async def count_waiting(self, owner: str, *, limit: int) -> int:
        return await self._answer(self._images.count_documents(_waiting(owner), limit=limit))

    async def owners_waiting(self, *, after: str, limit: int) -> list[str]:
        return await self._each_once("owner", {"waiting_since": {"$exists": True}}, after=after, limit=limit)

    async def waiting_overdue(self, created_before: datetime, *, limit: int) -> list[Image]:
        query = {"waiting_since": {"$exists": True}, "created_at": {"$lt": created_before}}
        return await self._oldest(query, "created_at", limit)

    async def held_slots(self, slots: Collection[str]) -> set[str]:
        cursor = self._images.find({"slot": {"$in": list(slots)}}, projection={"slot": True})
        return {document["slot"] for document in await self._answer(cursor.to_list(None))}

    async def incomplete_batches(self, *, due_before: datetime, limit: int) -> list[Image]:
        return await self._oldest({"batch_due": {"$lt": due_before}}, "batch_due", limit)

    async def batch_members(self, batch_id: str) -> list[Image]:
        cursor = self._images.find({"batch.id": batch_id}, sort=[("batch.index", ASCENDING)])
        return readable(await self._answer(cursor.to_list(None)), read_image)

    async def unsent(
        self, *, created_before: datetime, now: datetime, limit: int, pool: str = DEFAULT_POOL
    ) -> list[Image]:
        query = {
            **_in_pool_queue(pool),
            "sent_at": None,
            "created_at": {"$lt": created_before},
            "$or": [{"not_before": None}, {"not_before": {"$lte": now}}],
        }
        return await self._oldest(query, "created_at", limit)

    async def sent_before(self, moment: datetime, *, limit: int, pool: str = DEFAULT_POOL) -> list[Image]:
        query = {
            **_in_pool_queue(pool),
            "sent_at": {"$lt": moment},
            "$or": [{"not_before": None}, {"not_before": {"$lt": moment}}],
        }
        return await self._oldest(query, "sent_at", limit)

    async def latest_started_sent_at(self, pool: str = DEFAULT_POOL) -> datetime | None:
        query = {"pool": stored_pool(pool), "started_sent_at": {"$exists": True}}
        latest = await self._answer(self._images.find_one(query, sort=[("started_sent_at", DESCENDING)]))
        found = None if latest is None else latest["started_sent_at"]
        return found if isinstance(found, datetime) else None  # a damaged record may have anything else

    async def running(self, *, limit: int) -> list[Image]:
        query = {"status": Status.RUNNING.value, "lease.until": {"$exists": True}}
        return await self._oldest(query, "lease.until", limit)

    async def pending_events(self, *, since_before: datetime, limit: int) -> list[Image]:
        return await self._oldest({"event_due.since": {"$lt": since_before}}, "event_due.since", limit)

    async def overdue(self, dispatched_before: datetime, *, limit: int) -> list[Image]:
        before = {"$lt": dispatched_before}
        # a clause for each status: the partial index of the queue serves one status only
        clauses = [
            {"status": status, "waiting_since": None, **dispatched}
            for status in _values(set(Status) - FINAL)
            for dispatched in ({"dispatched_at": before}, {"dispatched_at": None, "created_at": before})
        ]
        return await self._oldest({"$or": clauses}, "created_at", limit)

    async def purgeable(self, created_before: datetime, *, limit: int) -> list[Image]:
        return await self._oldest(_purgeable(created_before), "created_at", limit)

    async def count_purgeable(self, created_before: datetime) -> int:
        return await self._answer(self._images.count_documents(_purgeable(created_before)))

    async def awaiting_tombstone(self, *, deleted_before: datetime, limit: int) -> list[Image]:
        return await self._oldest({"buried_at": None, "deleted_at": {"$lt": deleted_before}}, "deleted_at", limit)

    async def tombstones(self, *, tombstoned_before: datetime, limit: int) -> list[Image]:
        query = {"buried_at": {"$lt": tombstoned_before}, "deleted_at": {"$exists": True}, "event_due": None}
        return await self._oldest(query, "buried_at", limit)

    async def get_several(self, ids: Collection[str]) -> dict[str, Image]:
        documents = await self._answer(self._images.find({"_id": {"$in": list(ids)}}).to_list(None))
        return {image.id: image for image in readable(documents, read_image)}

    async def known_ids(self, ids: Collection[str]) -> set[str]:
        cursor = self._images.find({"_id": {"$in": list(ids)}}, projection={"_id": True})
        return {document["_id"] for document in await self._answer(cursor.to_list(None))}

    async def completed(self, *, after_id: str, limit: int) -> list[Image]:
        query = {"_id": {"$gt": after_id}, "status": Status.COMPLETED.value, "shown": True}
        # nearly all images are completed, so the index of the ids is read in order, without sorting
        by_id = [("_id", ASCENDING)]
        return await self._page(query, by_id, limit=limit, hint=by_id)

    async def _each_once(self, field: str, query: Document, *, after: str = "", limit: int | None = None) -> list[str]:
        """The different values of a field: one search of the index for each, as a hundred thousand may be the same."""
        found: list[str] = []
        while limit is None or len(found) < limit:
            more = {**query, field: {"$gt": after}}
            call = self._images.find_one(more, projection={field: True}, sort=[(field, ASCENDING)])
            if (first := await self._answer(call)) is None:
                break
            after = str(first[field])
            found.append(after)
        return found

    async def _one(self, query: Document) -> Image | None:
        document = await self._answer(self._images.find_one(query))
        return None if document is None else read_image(document)

    async def _oldest(self, query: Document, field: str, limit: int) -> list[Image]:
        return await self._page(query, [(field, ASCENDING)], limit=limit)

    async def _page(
        self, query: Document, sort: Sort, *, limit: int, offset: int = 0, hint: Sort | None = None
    ) -> list[Image]:
        async def fetch(limit: int, offset: int) -> tuple[list[Image], int]:
            cursor = self._images.find(query, sort=sort, skip=offset, limit=limit, hint=hint)
            documents = await self._answer(cursor.to_list(None))
            return readable(documents, read_image), len(documents)

        return await read_page(fetch, limit=limit, offset=offset)

    async def _answer(self, call: Awaitable[T]) -> T:
        """The driver's answer, within the time limit; its errors as ours, except `DuplicateKeyError` for the caller."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except DuplicateKeyError:
            raise
        except (PyMongoError, TimeoutError) as error:
            raise Unavailable("store", type(error).__name__) from error


def _waiting(owner: str | Document) -> Document:
    return {"owner": owner, "waiting_since": {"$exists": True}}


def _in_pool_queue(pool: str) -> Document:
    return {"status": Status.QUEUED.value, "waiting_since": None, "pool": stored_pool(pool)}


def _purgeable(created_before: datetime) -> Document:
    return {"status": {"$in": _values(FINAL)}, "shown": True, "pinned": False, "created_at": {"$lt": created_before}}


def _values(statuses: Collection[Status]) -> list[str]:
    return sorted(status.value for status in statuses)
