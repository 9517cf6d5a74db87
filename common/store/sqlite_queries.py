"""The queries about images in the SQLite store. Their contract is in `common/store/port.py`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from common.domain.batches import MAX_BATCH
from common.domain.images import Image, Status
from common.domain.pools import DEFAULT_POOL, PoolCounts
from common.domain.search import EVERYTHING, HistoryFilter, HistoryPosition
from common.store.documents import cut_page, in_turn, parse_image, parse_time, read_page, readable, time_text
from common.store.sqlite_search import Search, time_conditions
from common.store.sqlite_threads import SqliteExecutor


class SqliteQueries:
    """Reads images in the threads of the readers; `SqliteStore` writes them."""

    def __init__(self, writer: SqliteExecutor, readers: SqliteExecutor) -> None:
        self._writer = writer
        self._readers = readers

    async def get(self, image_id: str) -> Image | None:
        return await self._one("SELECT document FROM images WHERE id = ?", image_id)

    async def find_by_idempotency(self, idempotency: str) -> Image | None:
        return await self._one("SELECT document FROM images WHERE idempotency = ?", idempotency)

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
        if where.batch_id is not None:
            found = [
                image for image in await self.batch_members(where.batch_id) if where.selects(image, owner, statuses)
            ]
            return cut_page(found, limit=limit, offset=offset, after=after, oldest_first=oldest_first)
        if not statuses:
            return []
        if where.needs_index:
            search = Search(owner, statuses, where, after, oldest_first)
            return await self._read_page(search.documents, limit=limit, offset=offset)
        times = time_conditions(where, after, oldest_first=oldest_first)
        condition = "".join(f" AND {text}" for text, _ in times)
        # one sorted index scan for each status, merged up to the limit and no further
        arm = f"SELECT document, created_at, batch_index, id FROM shown WHERE owner = ? AND status = ? {condition}"  # noqa: S608
        way = "ASC" if oldest_first else "DESC"
        query = " UNION ALL ".join([arm] * len(statuses)) + f" ORDER BY created_at {way}, batch_index {way}, id {way}"
        bounds = [value for _, values in times for value in values]
        every = [value for status in statuses for value in (owner, status.value, *bounds)]
        return await self._page(query, *every, limit=limit, offset=offset)

    async def count_history(
        self,
        owner: str,
        statuses: Collection[Status],
        *,
        where: HistoryFilter = EVERYTHING,
        limit: int | None = None,
    ) -> int:
        if where.batch_id is not None:
            return len(await self.history(owner, statuses, limit=MAX_BATCH if limit is None else limit, where=where))
        if where.needs_index:
            search = Search(owner, statuses, where)
            return await self._readers.run(lambda connection: search.count(connection, limit))
        states = json.dumps(list(statuses))
        if times := time_conditions(where):
            condition = " AND ".join(text for text, _ in times)
            query = f"""
                SELECT count(*) FROM (
                    SELECT 1 FROM shown WHERE owner = ? AND status IN (SELECT value FROM json_each(?)) AND {condition}
                    LIMIT ?
                )
            """  # noqa: S608 - constants of this package
            bounds = [value for _, values in times for value in values]
            return int(await self._value(query, owner, states, *bounds, -1 if limit is None else limit))
        query = "SELECT coalesce(sum(n), 0) FROM totals WHERE owner = ? AND status IN (SELECT value FROM json_each(?))"
        count = int(await self._value(query, owner, states))
        return count if limit is None else min(count, limit)

    async def queued_pools(self) -> list[str]:
        return await self._readers.run(lambda connection: _each_once(connection, "pool", "queue"))

    async def queued_ids(self, now: datetime, *, limit: int, pool: str = DEFAULT_POOL) -> list[str]:
        query = "SELECT id FROM queue WHERE pool = ? AND waits_since <= ? ORDER BY waits_since, id LIMIT ?"
        return [image_id for (image_id,) in await self._rows(query, pool, time_text(now), limit)]

    async def count_queued_before(
        self, moment: datetime, image_id: str, *, limit: int, pool: str = DEFAULT_POOL
    ) -> int:
        query = "SELECT count(*) FROM (SELECT 1 FROM queue WHERE pool = ? AND (waits_since, id) < (?, ?) LIMIT ?)"
        return int(await self._value(query, pool, time_text(moment), image_id, limit))

    async def dispatched_to(self, pool: str, *, limit: int) -> list[Image]:
        return await self._page("SELECT document FROM queue WHERE pool = ? ORDER BY waits_since, id", pool, limit=limit)

    async def count_dispatched(self, *, limit: int, pool: str | None = DEFAULT_POOL) -> int:
        if pool is None:
            return int(await self._value("SELECT count(*) FROM (SELECT 1 FROM dispatched LIMIT ?)", limit))
        query = "SELECT count(*) FROM (SELECT 1 FROM in_pool WHERE pool = ? LIMIT ?)"
        return int(await self._value(query, pool, limit))

    async def pool_counts(self, pool: str) -> PoolCounts:
        query = """
            SELECT (SELECT count(*) FROM queue WHERE pool = :pool), (SELECT count(*) FROM in_pool WHERE pool = :pool),
            (SELECT count(*) FROM unsent WHERE pool = :pool),
            (SELECT min(sent_at) FROM sent WHERE pool = :pool AND sent_at < ':')
        """  # a time begins with a digit
        work = {"pool": pool}
        row = await self._readers.run(lambda connection: connection.execute(query, work).fetchone())
        queued, dispatched, unsent, oldest = row
        return PoolCounts(queued, dispatched - queued, unsent, None if oldest is None else parse_time(oldest))

    async def count_lined_up(self) -> int:
        return int(await self._value("SELECT count(*) FROM waiting_longest"))

    async def count_pending_events(self) -> int:
        return int(await self._value("SELECT count(*) FROM owing"))

    async def next_waiting(
        self, owner: str, *, now: datetime, limit: int, models: Collection[str] | None = None
    ) -> list[Image]:
        due = "(not_before IS NULL OR not_before <= ?) ORDER BY created_at, batch_index, id"
        if models is None:
            query = f"SELECT document FROM waiting WHERE owner = ? AND {due}"  # noqa: S608 - a constant
            return await self._page(query, owner, time_text(now), limit=limit)
        query = f"SELECT document FROM waiting_by_model WHERE owner = ? AND model = ? AND {due}"  # noqa: S608
        pages = [await self._page(query, owner, model, time_text(now), limit=limit) for model in models]
        return in_turn(image for page in pages for image in page)[:limit]

    async def waiting_models(self, owner: str) -> list[str]:
        return await self._readers.run(lambda connection: _each_once(connection, "model", "waiting_by_model", owner))

    async def waiting_line(self, owner: str, *, limit: int) -> dict[str, str]:
        query = "SELECT id, model FROM waiting WHERE owner = ? ORDER BY created_at, batch_index, id LIMIT ?"
        return {image_id: str(model) for image_id, model in await self._rows(query, owner, limit)}

    async def count_waiting(self, owner: str, *, limit: int) -> int:
        query = "SELECT count(*) FROM (SELECT 1 FROM waiting WHERE owner = ? LIMIT ?)"
        return int(await self._value(query, owner, limit))

    async def owners_waiting(self, *, after: str, limit: int) -> list[str]:
        return await self._readers.run(
            lambda connection: _each_once(connection, "owner", "waiting", after=after, limit=limit)
        )

    async def waiting_overdue(self, created_before: datetime, *, limit: int) -> list[Image]:
        query = "SELECT document FROM waiting_longest WHERE created_at < ? ORDER BY created_at"
        return await self._page(query, time_text(created_before), limit=limit)

    async def held_slots(self, slots: Collection[str]) -> set[str]:
        query = """
            SELECT slot FROM images WHERE slot IS NOT NULL AND slot IN (SELECT value FROM json_each(?))
        """
        return {slot for (slot,) in await self._rows(query, json.dumps(list(slots)))}

    async def incomplete_batches(self, *, due_before: datetime, limit: int) -> list[Image]:
        query = "SELECT document FROM batches_due WHERE batch_due < ? ORDER BY batch_due"
        return await self._page(query, time_text(due_before), limit=limit)

    async def batch_members(self, batch_id: str) -> list[Image]:
        query = "SELECT document FROM batches WHERE batch_id = ? ORDER BY batch_index"
        return await self._readers.run(lambda connection: _images(connection, query, (batch_id,)))

    async def unsent(
        self, *, created_before: datetime, now: datetime, limit: int, pool: str = DEFAULT_POOL
    ) -> list[Image]:
        query = """
            SELECT document FROM unsent
            WHERE pool = ? AND created_at < ? AND (not_before IS NULL OR not_before <= ?)
            ORDER BY created_at
        """
        return await self._page(query, pool, time_text(created_before), time_text(now), limit=limit)

    async def sent_before(self, moment: datetime, *, limit: int, pool: str = DEFAULT_POOL) -> list[Image]:
        query = """
            SELECT document FROM sent
            WHERE pool = ? AND sent_at < ? AND (not_before IS NULL OR not_before < ?)
            ORDER BY sent_at
        """
        return await self._page(query, pool, time_text(moment), time_text(moment), limit=limit)

    async def latest_started_sent_at(self, pool: str = DEFAULT_POOL) -> datetime | None:
        query = "SELECT max(sent_at) FROM started WHERE pool = ? AND sent_at < ':'"  # a time begins with a digit
        text = await self._value(query, pool)
        return None if text is None else parse_time(text)

    async def running(self, *, limit: int) -> list[Image]:
        return await self._page("SELECT document FROM leased ORDER BY lease_until", limit=limit)

    async def pending_events(self, *, since_before: datetime, limit: int) -> list[Image]:
        query = "SELECT document FROM owing WHERE event_since < ? ORDER BY event_since"
        return await self._page(query, time_text(since_before), limit=limit)

    async def overdue(self, dispatched_before: datetime, *, limit: int) -> list[Image]:
        query = "SELECT document FROM dispatched WHERE dispatched_at < ? ORDER BY dispatched_at"
        return await self._page(query, time_text(dispatched_before), limit=limit)

    async def purgeable(self, created_before: datetime, *, limit: int) -> list[Image]:
        query = "SELECT document FROM purgeable WHERE created_at < ? ORDER BY created_at"
        return await self._page(query, time_text(created_before), limit=limit)

    async def count_purgeable(self, created_before: datetime) -> int:
        query = "SELECT count(*) FROM purgeable WHERE created_at < ?"
        return int(await self._value(query, time_text(created_before)))

    async def awaiting_tombstone(self, *, deleted_before: datetime, limit: int) -> list[Image]:
        query = "SELECT document FROM unburied WHERE deleted_at < ? ORDER BY deleted_at"
        return await self._page(query, time_text(deleted_before), limit=limit)

    async def tombstones(self, *, tombstoned_before: datetime, limit: int) -> list[Image]:
        query = "SELECT document FROM tombstones WHERE buried_at < ? ORDER BY buried_at"
        return await self._page(query, time_text(tombstoned_before), limit=limit)

    async def get_several(self, ids: Collection[str]) -> dict[str, Image]:
        query = "SELECT document FROM images WHERE id IN (SELECT value FROM json_each(?))"
        values = (json.dumps(list(ids)),)
        found = await self._readers.run(lambda connection: _images(connection, query, values))
        return {image.id: image for image in found}

    async def known_ids(self, ids: Collection[str]) -> set[str]:
        query = "SELECT id FROM images WHERE id IN (SELECT value FROM json_each(?))"
        return {image_id for (image_id,) in await self._rows(query, json.dumps(list(ids)))}

    async def completed(self, *, after_id: str, limit: int) -> list[Image]:
        query = "SELECT document FROM shown WHERE id > ? AND status = 'completed' ORDER BY id"
        return await self._page(query, after_id, limit=limit)

    async def _one(self, query: str, value: str) -> Image | None:
        rows = await self._rows(query, value)
        return parse_image(rows[0][0]) if rows else None

    async def _page(self, query: str, *values: Any, limit: int, offset: int = 0) -> list[Image]:
        """The images of an ordered query whose first column is the document."""

        def documents(connection: sqlite3.Connection, limit: int, offset: int) -> list[str]:
            # all: an open statement would hold its snapshot
            found = connection.execute(f"{query} LIMIT ? OFFSET ?", (*values, limit, offset)).fetchall()
            return [text for text, *_ in found]

        return await self._read_page(documents, limit=limit, offset=offset)

    async def _read_page(
        self, documents: Callable[[sqlite3.Connection, int, int], list[str]], *, limit: int, offset: int
    ) -> list[Image]:
        """The images of a function that returns the documents of a page."""

        def parsed(connection: sqlite3.Connection, limit: int, offset: int) -> tuple[list[Image], int]:
            texts = documents(connection, limit, offset)
            return readable(texts, parse_image), len(texts)

        async def fetch(limit: int, offset: int) -> tuple[list[Image], int]:
            return await self._readers.run(lambda connection: parsed(connection, limit, offset))

        return await read_page(fetch, limit=limit, offset=offset)

    async def _rows(self, query: str, *values: Any) -> list[Any]:
        return await self._readers.run(lambda connection: connection.execute(query, values).fetchall())

    async def _value(self, query: str, *values: Any) -> Any:
        return await self._readers.run(lambda connection: connection.execute(query, values).fetchone()[0])


def _images(connection: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> list[Image]:
    """The images that can be read, parsed in this thread."""
    rows = connection.execute(query, values).fetchall()  # all: an open statement would hold its snapshot
    return readable((text for text, *_ in rows), parse_image)


def _each_once(
    connection: sqlite3.Connection, column: str, view: str, *owner: str, after: str = "", limit: int | None = None
) -> list[str]:
    """The different values of a column, of one owner if it is named.

    One search of the index for each, as a hundred thousand rows may have the same.
    """
    query = f"SELECT min({column}) FROM {view} WHERE {'owner = ? AND' if owner else ''} {column} > ?"  # noqa: S608
    found: list[str] = []
    while limit is None or len(found) < limit:
        (value,) = connection.execute(query, (*owner, after)).fetchone()
        if value is None:
            break
        found.append(value)
        after = value
    return found
