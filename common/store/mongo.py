"""The store in MongoDB, shared by any number of machines. The one module that knows the driver.

    images    one document for each image, `_id` its id
    entries   one document for each entry, `_id` its kind and key

Writes are answered by a majority of the servers, from their journals. The driver is motor, past its end of life; its
successor has the same methods, so the change would stay in this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCursor, AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING, DeleteOne, IndexModel
from pymongo.errors import ConfigurationError, DuplicateKeyError, OperationFailure, PyMongoError

from common.domain.errors import Duplicate, Misconfigured, Unavailable
from common.domain.images import FINAL, Image, Status
from common.store.documents import Document, entry_document, entry_id, image_document, read_entry, read_image
from common.store.port import Entry, HistoryPosition

T = TypeVar("T")

# A sparse index holds no document that lacks the field. `id` stands in them for `_id`, which is the same.
IMAGE_INDEXES: Final = (
    IndexModel([("slot", ASCENDING)], name="slot", unique=True, sparse=True),
    IndexModel([("idempotency", ASCENDING)], name="idempotency", unique=True, sparse=True),
    IndexModel(
        [
            ("owner", ASCENDING),
            ("status", ASCENDING),
            ("shown", ASCENDING),
            ("created_at", DESCENDING),
            ("id", DESCENDING),
        ],
        name="history",
    ),
    IndexModel(
        [("sent_at", ASCENDING), ("created_at", ASCENDING)],
        name="queued",
        partialFilterExpression={"status": Status.QUEUED.value},
    ),
    IndexModel(
        [("waits_since", ASCENDING), ("id", ASCENDING)],
        name="waiting",
        partialFilterExpression={"waits_since": {"$exists": True}},
    ),
    IndexModel([("started_sent_at", DESCENDING)], name="started", sparse=True),
    IndexModel([("lease.until", ASCENDING)], name="leased", sparse=True),
    IndexModel([("event_due.since", ASCENDING)], name="owing", sparse=True),
    IndexModel(
        [("status", ASCENDING), ("shown", ASCENDING), ("pinned", ASCENDING), ("created_at", ASCENDING)], name="age"
    ),
    IndexModel(
        [("buried_at", ASCENDING), ("deleted_at", ASCENDING)],
        name="deleted",
        partialFilterExpression={"deleted_at": {"$exists": True}},
    ),
)
ENTRY_INDEXES: Final = (
    IndexModel([("kind", ASCENDING), ("key", ASCENDING)], name="kind"),
    IndexModel([("expires_at", ASCENDING)], name="expiring", sparse=True),
)
AT_ONCE: Final = 10  # of the writes of `replace_several`: about what motor has threads for
INSERT_TRIES: Final = 3
# AuthenticationFailed, Unauthorized, IndexOptionsConflict, IndexKeySpecsConflict (mongodb.com/docs, error codes, 7.0)
_OPERATORS_BUSINESS: Final = frozenset({18, 13, 85, 86})


class MongoStore:
    """Made by `open`; see `common/store/port.py` for what each method promises."""

    def __init__(self, database: AsyncIOMotorDatabase[Document], *, timeout_s: float) -> None:
        self._database = database
        self._images = database["images"]
        self._entries = database["entries"]
        self._timeout_s = timeout_s

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, timeout_s: float) -> AsyncIterator[MongoStore]:
        """Connect, and see to the indexes.

        Raises:
            Misconfigured: the URL cannot be used, names no database, or one that refuses us.
            Unavailable: the database does not answer in time.
        """
        timeout_ms = max(1, int(timeout_s * 1000))
        try:
            client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
                url,
                w="majority",
                journal=True,
                retryWrites=True,
                serverSelectionTimeoutMS=timeout_ms,
                connectTimeoutMS=timeout_ms,
                socketTimeoutMS=timeout_ms,
                appname="darkroom",
            )
        except (PyMongoError, ValueError) as error:
            # without the cause: its text may hold a part of the URL, and so of a password
            raise Misconfigured(f"STORE_URL: not a URL of MongoDB ({type(error).__name__})") from None
        try:
            store = cls(_database(client), timeout_s=timeout_s)
            await store._create_indexes()
            yield store
        finally:
            # in a thread: it says goodbye to a server that may be silent, and would hold up the event loop meanwhile
            await asyncio.to_thread(client.close)

    async def insert(self, image: Image) -> None:
        for _ in range(INSERT_TRIES):
            try:
                await self._answer(self._images.insert_one(image_document(image)))
                return
            except DuplicateKeyError as error:
                stored = await self.get(image.id)
                if stored is not None:
                    if image_document(stored) == image_document(image):
                        return  # it is our own, whose first answer was lost
                    raise Duplicate("id") from error
                key = await self._taken(image)
                if key is not None:
                    raise Duplicate(key) from error
            # the holder of the key has let go of it since
        raise Unavailable("store", "a key of the record keeps changing hands")

    async def get(self, image_id: str) -> Image | None:
        return await self._one({"_id": image_id})

    async def replace(self, image: Image) -> bool:
        before = {"_id": image.id, "revision": image.revision - 1}
        try:
            result = await self._answer(self._images.replace_one(before, image_document(image)))
        except DuplicateKeyError as error:
            raise Duplicate(await self._taken(image) or "slot") from error
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
        query = _shown(owner, statuses)
        if after is not None:
            # the first bounds the walk through the index, the second passes over those of the same moment
            query["created_at"] = {"$lte": after.created_at}
            query["$or"] = [{"created_at": {"$lt": after.created_at}}, {"id": {"$lt": after.id}}]
        newest_first = [("created_at", DESCENDING), ("id", DESCENDING)]
        return await self._many(self._images.find(query, sort=newest_first, skip=offset, limit=limit))

    async def count_history(self, owner: str, statuses: Collection[Status]) -> int:
        # from the index alone; linear, but an owner has at most what the retention leaves of the hourly limit
        return await self._answer(self._images.count_documents(_shown(owner, statuses)))

    async def waiting_ids(self, now: datetime, *, limit: int) -> list[str]:
        longest_first = [("waits_since", ASCENDING), ("id", ASCENDING)]
        # from the index alone
        cursor = self._images.find(
            {"waits_since": {"$lte": now}}, projection={"_id": False, "id": True}, sort=longest_first, limit=limit
        )
        return [document["id"] for document in await self._answer(cursor.to_list(None))]

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
        return None if latest is None else latest["started_sent_at"]

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
        found = await self._many(self._images.find({"_id": {"$in": list(ids)}}))
        return {image.id: image for image in found}

    async def completed(self, *, after_id: str, limit: int) -> list[Image]:
        query = {"_id": {"$gt": after_id}, "status": Status.COMPLETED.value, "shown": True}
        # nearly all images are completed: in the order of the ids, without sorting
        by_id = [("_id", ASCENDING)]
        return await self._many(self._images.find(query, sort=by_id, limit=limit, hint=by_id))

    async def replace_several(self, images: Collection[Image]) -> set[str]:
        # one by one: the answer to a bulk write says how many were replaced, but not which
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
        return [read_entry(document) for document in documents]

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
        return await self._many(self._images.find(query, sort=[(field, ASCENDING)], limit=limit))

    async def _many(self, cursor: AsyncIOMotorCursor[Document]) -> list[Image]:
        return [read_image(document) for document in await self._answer(cursor.to_list(None))]

    async def _taken(self, image: Image) -> str | None:
        """Which key another image holds; first the idempotency: who repeats an order wants its image, not a place."""
        for key, value in (("idempotency", image.idempotency), ("slot", image.slot)):
            if value is not None and await self._one({key: value, "_id": {"$ne": image.id}}):
                return key
        return None

    async def _create_indexes(self) -> None:
        try:
            await self._answer(self._images.create_indexes(list(IMAGE_INDEXES)))
            await self._answer(self._entries.create_indexes(list(ENTRY_INDEXES)))
        except Unavailable as error:
            refusal = error.__cause__
            if isinstance(refusal, ConfigurationError):  # only now does mongodb+srv:// look up its hosts
                raise Misconfigured("STORE_URL: its hosts cannot be looked up") from error
            if isinstance(refusal, OperationFailure) and refusal.code in _OPERATORS_BUSINESS:
                raise Misconfigured(f"STORE_URL: the database refuses us, with code {refusal.code}") from error
            raise

    async def _answer(self, call: Awaitable[T]) -> T:
        """What the driver answers, in time, and its errors as ours; `DuplicateKeyError` is the caller's to explain."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except DuplicateKeyError:
            raise
        except (PyMongoError, TimeoutError) as error:
            raise Unavailable("store", type(error).__name__) from error


def _database(client: AsyncIOMotorClient[Document]) -> AsyncIOMotorDatabase[Document]:
    options: CodecOptions[Any] = CodecOptions(tz_aware=True, tzinfo=UTC)
    try:
        return client.get_default_database(codec_options=options)
    except ConfigurationError:
        raise Misconfigured("STORE_URL: names no database: mongodb://host/database") from None


def _shown(owner: str, statuses: Collection[Status]) -> Document:
    return {"owner": owner, "status": {"$in": _values(statuses)}, "shown": True}


def _purgeable(created_before: datetime) -> Document:
    return {"status": {"$in": _values(FINAL)}, "shown": True, "pinned": False, "created_at": {"$lt": created_before}}


def _values(statuses: Collection[Status]) -> list[str]:
    return sorted(status.value for status in statuses)
