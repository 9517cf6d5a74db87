"""The store in MongoDB, shared by any number of machines.

    images    one document for each image, `_id` its id
    entries   one document for each entry, `_id` its kind and key

A write is confirmed by a majority of the servers, from their journals. The driver is motor, which is past its end of
life; its successor has the same methods, so the change stays within `common/store/mongo*.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from pymongo import ASCENDING, DeleteOne
from pymongo.errors import DuplicateKeyError

from common.domain.errors import Duplicate, Unavailable
from common.domain.images import Image
from common.store import mongo_client, mongo_search
from common.store.documents import (
    entry_document,
    entry_id,
    image_document,
    read_entry,
    read_page,
    readable,
)
from common.store.mongo_indexes import ENTRY_INDEXES, IMAGE_INDEXES
from common.store.mongo_queries import MongoQueries
from common.store.port import Entry, IndexedPage

AT_ONCE: Final = 10  # writes of `replace_several` at the same time: about the number of motor's threads
INSERT_TRIES: Final = 3


class MongoStore(MongoQueries):
    """Opened by `open`; the contract of the methods is in `common/store/port.py`."""

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

    async def index_for_search(self, *, after_id: str, limit: int) -> IndexedPage:
        page = {"_id": {"$gt": after_id}}
        by_id = [("_id", ASCENDING)]
        ids = await self._answer(self._images.find(page, {"_id": True}, sort=by_id, limit=limit).to_list(None))
        if not ids:
            return IndexedPage(0, None)
        page["_id"]["$lte"] = ids[-1]["_id"]
        missing = await self._answer(self._images.find({**page, **mongo_search.NOT_INDEXED}).to_list(None))
        updates = [mongo_search.index_update(document) for document in missing]
        if updates:
            await self._answer(self._images.bulk_write(updates, ordered=False))
        return IndexedPage(len(updates), ids[-1]["_id"] if len(ids) == limit else None)

    async def get_entry(self, kind: str, key: str) -> Entry | None:
        document = await self._answer(self._entries.find_one({"_id": entry_id(kind, key)}))
        return None if document is None else read_entry(document)

    async def list_entries(self, kind: str) -> list[Entry]:
        documents = await self._answer(self._entries.find({"kind": kind}, sort=[("key", ASCENDING)]).to_list(None))
        return readable(documents, read_entry)

    async def entries_after(self, kind: str, after: str, *, limit: int) -> list[Entry]:
        query = {"kind": kind, "key": {"$gt": after}}

        async def fetch(limit: int, offset: int) -> tuple[list[Entry], int]:
            found = self._entries.find(query, sort=[("kind", ASCENDING), ("key", ASCENDING)], skip=offset, limit=limit)
            documents = await self._answer(found.to_list(None))
            return readable(documents, read_entry), len(documents)

        return await read_page(fetch, limit=limit)

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
