"""The store in one SQLite file, shared by the processes of one machine.

It needs no installation. With the write-ahead log and `synchronous=FULL`, a confirmed write survives a loss of power.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from common.domain.errors import Misconfigured
from common.domain.images import Image
from common.store import sqlite_schema as schema
from common.store import sqlite_writes as writes
from common.store.documents import (
    data_text,
    image_text,
    parse_entry,
    read_page,
    readable,
    time_text,
)
from common.store.port import Entry, IndexedPage
from common.store.sqlite_queries import SqliteQueries
from common.store.sqlite_threads import (
    MAX_ROWS,
    SqliteExecutor,
    WriteLock,
    commit_writes,
    is_busy,
    is_transient,
    run_reads,
    unavailable,
)

OLDEST_SQLITE: Final = (3, 38, 0)  # the operator ->>; STRICT tables came with 3.37
OPENING_PAUSE_S: Final = 0.05  # while others open the file: SQLite does not wait while it switches the log on
READERS: Final = 3  # threads; they share one interpreter, so more gain nothing


class SqliteStore(SqliteQueries):
    """Opened by `open`; the contract of the methods is in `common/store/port.py`."""

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, timeout_s: float) -> AsyncIterator[SqliteStore]:
        """Open the file; create it and its folder if they are missing.

        Raises:
            Misconfigured: the path cannot be used, or the file belongs to another program.
            Unavailable: the file cannot be opened in time.
        """
        connections = await asyncio.to_thread(_open, path, timeout_s)
        lock = WriteLock(path.parent)
        run_writes = partial(commit_writes, lock=lock)
        writer = SqliteExecutor(connections[:1], run_writes, max_rows=MAX_ROWS, timeout_s=timeout_s)
        readers = SqliteExecutor(connections[1:], run_reads, max_rows=1, timeout_s=timeout_s)
        try:
            yield cls(writer, readers)
        finally:
            await readers.close()
            await writer.close()
            lock.close()

    async def insert(self, image: Image) -> None:
        text, row = image_text(image), writes.index_row(image)
        await self._writer.run(lambda connection: writes.insert(connection, image, text, row))

    async def replace(self, image: Image) -> bool:
        text = image_text(image)
        return await self._writer.run(lambda connection: writes.replace(connection, image, text))

    async def remove(self, image: Image) -> bool:
        return await self._writer.run(lambda connection: writes.remove(connection, image))

    async def replace_several(self, images: Collection[Image]) -> set[str]:
        in_order, replaced = list(images), set[str]()
        for start in range(0, len(in_order), MAX_ROWS):  # one transaction each, so that other writers get their turn
            some = in_order[start : start + MAX_ROWS]
            rows = await asyncio.to_thread(writes.rows, some)  # before the transaction and outside the event loop
            replaced |= await self._writer.run(partial(writes.replace_several, images=some, rows=rows), rows=len(some))
        return replaced

    async def remove_several(self, images: Collection[Image]) -> int:
        keys = [(image.id, image.revision) for image in images]
        removed = 0
        for start in range(0, len(keys), MAX_ROWS):
            some = keys[start : start + MAX_ROWS]
            removed += await self._writer.run(partial(writes.remove_several, keys=some), rows=len(some))
        return removed

    async def index_for_search(self, *, after_id: str, limit: int) -> IndexedPage:
        # a tenth of a second for a million images, where looking at each of them would be 8 s, in writes
        if not after_id and await self._value(writes.ALL_INDEXED):
            return IndexedPage(0, None)
        return await self._writer.run(partial(writes.index_page, after_id=after_id, limit=limit), rows=limit)

    async def get_entry(self, kind: str, key: str) -> Entry | None:
        query = "SELECT kind, key, revision, data, expires_at FROM entries WHERE kind = ? AND key = ?"
        rows = await self._rows(query, kind, key)
        return parse_entry(rows[0]) if rows else None

    async def list_entries(self, kind: str) -> list[Entry]:
        query = "SELECT kind, key, revision, data, expires_at FROM entries WHERE kind = ? ORDER BY key"
        return await self._entries(query, kind)

    async def entries_after(self, kind: str, after: str, *, limit: int) -> list[Entry]:
        query = """
            SELECT kind, key, revision, data, expires_at FROM entries
            WHERE kind = ? AND key > ? ORDER BY key LIMIT ? OFFSET ?
        """

        async def fetch(limit: int, offset: int) -> tuple[list[Entry], int]:
            rows = await self._rows(query, kind, after, limit, offset)
            return readable(rows, parse_entry), len(rows)

        return await read_page(fetch, limit=limit)

    async def put_entry(self, entry: Entry) -> bool:
        expires_at = None if entry.expires_at is None else time_text(entry.expires_at)
        values = (entry.revision, data_text(entry.data), expires_at, entry.kind, entry.key)
        if entry.revision == 1:
            query = """
                INSERT INTO entries (revision, data, expires_at, kind, key) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT DO NOTHING
            """
            return await self._write(query, *values) == 1
        query = "UPDATE entries SET revision = ?, data = ?, expires_at = ? WHERE kind = ? AND key = ? AND revision = ?"
        return await self._write(query, *values, entry.revision - 1) == 1

    async def remove_entry(self, kind: str, key: str) -> bool:
        return await self._write("DELETE FROM entries WHERE kind = ? AND key = ?", kind, key) == 1

    async def remove_expired_entries(self, now: datetime) -> int:
        return await self._write("DELETE FROM entries WHERE expires_at <= ?", time_text(now))

    async def check(self) -> None:
        await self._value("SELECT count(*) FROM (SELECT 1 FROM images LIMIT 1)")

    async def _entries(self, query: str, *values: Any) -> list[Entry]:
        return readable(await self._rows(query, *values), parse_entry)

    async def _write(self, query: str, *values: Any) -> int:
        return await self._writer.run(lambda connection: connection.execute(query, values).rowcount)


def _open(path: Path, timeout_s: float) -> list[sqlite3.Connection]:
    """The connection of the writer, then those of the readers."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise Misconfigured(f"SQLite is {sqlite3.sqlite_version}, Darkroom needs 3.38 or later: use a newer Python")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"STORE_URL: the folder cannot be created: {error.strerror}") from error
    tries = max(1, int(timeout_s / OPENING_PAUSE_S))
    while True:
        tries -= 1
        try:
            return schema.connect(path, readers=READERS, timeout_s=timeout_s)
        except sqlite3.Error as error:
            if not is_transient(error):
                raise Misconfigured(f"STORE_URL: {path} cannot be opened: {error}", code="bad_setting") from error
            if not (tries and is_busy(error)):
                raise unavailable(error) from error
        time.sleep(OPENING_PAUSE_S)
