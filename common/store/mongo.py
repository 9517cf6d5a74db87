"""The store in MongoDB, shared by any number of machines.

    images    one document for each image, `_id` its id
    entries   one document for each entry, `_id` its kind and key

A write is confirmed by a majority of the servers, from their journals. The driver is motor, which is past its end of
life; its successor has the same methods, so the change stays within `common/store/mongo*.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, TypeVar

from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING, DeleteOne
from pymongo.errors import DuplicateKeyError, PyMongoError

from common.domain.errors import Duplicate, Unavailable
from common.domain.images import FINAL, Image, Status
from common.store import mongo_client
from common.store.documents import (
    Document,
    entry_document,
    entry_id,
    image_document,
    read_entry,
    read_image,
    read_page,
    readable,
)
from common.store.mongo_indexes import ENTRY_INDEXES, IMAGE_INDEXES
from common.store.port import Entry, HistoryPosition

T = TypeVar("T")
Sort = list[tuple[str, int]]

AT_ONCE: Final = 10  # writes of `replace_several` at the same time: about the number of motor's threads
INSERT_TRIES: Final = 3


class MongoStore:
    """Opened by `open`; the contract of the methods is in `common/store/port.py`."""

    def __init__(self, database: AsyncIOMotorDatabase[Document], *, timeout_s: float) -> None:
        self._database = database
        self._images = database["images"]
        self._entries = database["entries"]
        self._timeout_s = timeout_s

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, timeout_s: float) -> AsyncIterator[MongoStore]:
        """Connect, and create missing indexes.

        Raises:
            Misconfigured: the URL is not valid, names no database, or the database refuses the connection.
            Unavailable: the database does not answer in time.
        """
        async with mongo_client.connect(url, timeout_s=timeout_s) as database:
            store = cls(database, timeout_s=timeout_s)
            await store._create_indexes()
            yield store

    async def insert(self, image: Image) -> None:
        for _ in range(INSERT_TRIES):
            try:
                await self._answer(self._images.insert_one(image_document(image)))
                return
            except DuplicateKeyError as error:
                stored = await self.get(image.id)
                if stored is not None:
                    if image_document(stored) == image_document(image):
                        return  # our own insert, whose first answer was lost
                    raise Duplicate("id") from error
                key = await self._duplicate_key(image)
                if key is not None:
                    raise Duplicate(key) from error
            # the other image has released the key since
        raise Unavailable("store", "a unique key of the record keeps changing its owner")

    async def get(self, image_id: str) -> Image | None:
        return await self._one({"_id": image_id})

    async def replace(self, image: Image) -> bool:
        before = {"_id": image.id, "revision": image.revision - 1}
        try:
            result = await self._answer(self._images.replace_one(before, image_document(image)))
        except DuplicateKeyError as error:
            raise Duplicate(await self._duplicate_key(image) or "slot") from error
        return result.matched_count == 1

    async def remove(self, image: Image) -> bool:
        result = await self._answer(self._images.delete_one({"_id": image.id, "revision": image.revision}))
        return result.deleted_count == 1

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
    ) -> list[Image]:
        query = _visible(owner, statuses)
        if after is not None:
            # the first condition bounds the index scan, the second skips images of the same moment
            query["created_at"] = {"$lte": after.created_at}
            query["$or"] = [{"created_at": {"$lt": after.created_at}}, {"id": {"$lt": after.id}}]
        newest_first = [("created_at", DESCENDING), ("id", DESCENDING)]
        return await self._page(query, newest_first, limit=limit, offset=offset)

    async def count_history(self, owner: str, statuses: Collection[Status]) -> int:
        # covered by the index; linear, but retention and the hourly limit bound the images of an owner
        return await self._answer(self._images.count_documents(_visible(owner, statuses)))

    async def waiting_ids(self, now: datetime, *, limit: int) -> list[str]:
        longest_first = [("waits_since", ASCENDING), ("id", ASCENDING)]
        covered = {"_id": False, "id": True}  # by the index
        cursor = self._images.find({"waits_since": {"$lte": now}}, projection=covered, sort=longest_first, limit=limit)
        return [document["id"] for document in await self._answer(cursor.to_list(None)) if "id" in document]

    async def count_waiting_before(self, moment: datetime, image_id: str, *, limit: int) -> int:
        query = {
            "waits_since": {"$lte": moment},
            "$or": [{"waits_since": {"$lt": moment}}, {"id": {"$lt": image_id}}],
        }
        return await self._answer(self._images.count_documents(query, limit=limit))

    async def unsent(self, *, created_before: datetime, now: datetime, limit: int) -> list[Image]:
        query = {
            "status": Status.QUEUED.value,
            "sent_at": None,
            "created_at": {"$lt": created_before},
            "$or": [{"not_before": None}, {"not_before": {"$lte": now}}],
        }
        return await self._oldest(query, "created_at", limit)

    async def sent_before(self, moment: datetime, *, limit: int) -> list[Image]:
        query = {
            "status": Status.QUEUED.value,
            "sent_at": {"$lt": moment},
            "$or": [{"not_before": None}, {"not_before": {"$lt": moment}}],
        }
        return await self._oldest(query, "sent_at", limit)

    async def latest_started_sent_at(self) -> datetime | None:
        query = {"started_sent_at": {"$exists": True}}
        latest = await self._answer(self._images.find_one(query, sort=[("started_sent_at", DESCENDING)]))
        found = None if latest is None else latest["started_sent_at"]
        return found if isinstance(found, datetime) else None  # a damaged record may have anything else

    async def running(self, *, limit: int) -> list[Image]:
        query = {"status": Status.RUNNING.value, "lease.until": {"$exists": True}}
        return await self._oldest(query, "lease.until", limit)

    async def pending_events(self, *, since_before: datetime, limit: int) -> list[Image]:
        return await self._oldest({"event_due.since": {"$lt": since_before}}, "event_due.since", limit)

    async def overdue(self, created_before: datetime, *, limit: int) -> list[Image]:
        query = {"status": {"$in": _values(set(Status) - FINAL)}, "created_at": {"$lt": created_before}}
        return await self._oldest(query, "created_at", limit)

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

    async def replace_several(self, images: Collection[Image]) -> set[str]:
        # one by one: the answer to a bulk write says how many documents were replaced, but not which
        replaced: set[str] = set()
        waiting = list(images)
        while waiting:
            some, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            outcomes = await asyncio.gather(*map(self.replace, some), return_exceptions=True)
            for image, outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, BaseException) and not isinstance(outcome, Duplicate):
                    raise outcome
                if outcome is True:
                    replaced.add(image.id)
        return replaced

    async def remove_several(self, images: Collection[Image]) -> int:
        if not images:
            return 0
        deletes = [DeleteOne({"_id": image.id, "revision": image.revision}) for image in images]
        result = await self._answer(self._images.bulk_write(deletes, ordered=False))
        return result.deleted_count

    async def get_entry(self, kind: str, key: str) -> Entry | None:
        document = await self._answer(self._entries.find_one({"_id": entry_id(kind, key)}))
        return None if document is None else read_entry(document)

    async def list_entries(self, kind: str) -> list[Entry]:
        documents = await self._answer(self._entries.find({"kind": kind}, sort=[("key", ASCENDING)]).to_list(None))
        return readable(documents, read_entry)

    async def put_entry(self, entry: Entry) -> bool:
        document = entry_document(entry)
        if entry.revision == 1:
            try:
                await self._answer(self._entries.insert_one(document))
            except DuplicateKeyError:
                return False
            return True
        before = {"_id": document["_id"], "revision": entry.revision - 1}
        return (await self._answer(self._entries.replace_one(before, document))).matched_count == 1

    async def remove_entry(self, kind: str, key: str) -> bool:
        return (await self._answer(self._entries.delete_one({"_id": entry_id(kind, key)}))).deleted_count == 1

    async def remove_expired_entries(self, now: datetime) -> int:
        return (await self._answer(self._entries.delete_many({"expires_at": {"$lte": now}}))).deleted_count

    async def check(self) -> None:
        await self._answer(self._database.command("ping"))

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

    async def _duplicate_key(self, image: Image) -> str | None:
        """The key that another image holds; idempotency first: a repeated request needs its image, not a free slot."""
        for key, value in (("idempotency", image.idempotency), ("slot", image.slot)):
            if value is not None and await self._one({key: value, "_id": {"$ne": image.id}}):
                return key
        return None

    async def _create_indexes(self) -> None:
        try:
            await self._answer(self._images.create_indexes(list(IMAGE_INDEXES)))
            await self._answer(self._entries.create_indexes(list(ENTRY_INDEXES)))
        except Unavailable as error:
            if (misconfigured := mongo_client.misconfiguration(error)) is not None:
                raise misconfigured from error
            raise

    async def _answer(self, call: Awaitable[T]) -> T:
        """The driver's answer, within the time limit; its errors as ours, except `DuplicateKeyError` for the caller."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except DuplicateKeyError:
            raise
        except (PyMongoError, TimeoutError) as error:
            raise Unavailable("store", type(error).__name__) from error


def _visible(owner: str, statuses: Collection[Status]) -> Document:
    return {"owner": owner, "status": {"$in": _values(statuses)}, "shown": True}


def _purgeable(created_before: datetime) -> Document:
    return {"status": {"$in": _values(FINAL)}, "shown": True, "pinned": False, "created_at": {"$lt": created_before}}


def _values(statuses: Collection[Status]) -> list[str]:
    return sorted(status.value for status in statuses)
