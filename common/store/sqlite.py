"""The store in one SQLite file, shared by the processes of one machine. Nothing to install, and as durable as the disk.

Write-ahead log and `synchronous=FULL`: what was accepted survives a loss of power.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from common.errors import Duplicate, Misconfigured
from common.images import Image, Status
from common.store import sqlite_schema as schema
from common.store.documents import data_text, image_text, parse_data, parse_image, parse_time, time_text
from common.store.port import Entry, Position
from common.store.sqlite_threads import MAX_ROWS, Lane, answer, commit, is_busy, unavailable

OLDEST_SQLITE: Final = (3, 38, 0)  # the operator ->>; STRICT tables came with 3.37
OPENING_PAUSE_S: Final = 0.05  # while others open the file too: SQLite does not wait where it turns the log on
READERS: Final = 3  # they share one interpreter: more gain nothing
# Many rows in one step: between two this thread waits for its turn at the interpreter, up to 5 ms while others are
# busy, with the file locked. So no statement for each row, and no row of an answer for each, as `RETURNING` gives.
_REPLACEABLE: Final = """
    SELECT json_group_array(images.id) FROM json_each(?) AS new
    JOIN images ON images.id = new.value ->> 0 AND images.revision = new.value ->> 1
"""
_REPLACE_SEVERAL: Final = """
    UPDATE images SET document = new.value ->> 2 FROM json_each(?) AS new
    WHERE images.id = new.value ->> 0 AND images.revision = new.value ->> 1
"""
_HOLDER_OF_IDEMPOTENCY: Final = "SELECT 1 FROM images WHERE idempotency = ? AND id != ?"
_HOLDER_OF_SLOT: Final = "SELECT 1 FROM images WHERE slot = ? AND id != ?"


class SqliteStore:
    """Made by `open`; see `common/store/port.py` for what each method promises."""

    def __init__(self, writer: Lane, readers: Lane) -> None:
        self._writer = writer
        self._readers = readers

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, timeout_s: float) -> AsyncIterator[SqliteStore]:
        """Open or make the file, and its folder.

        Raises:
            Misconfigured: the path cannot be used, or holds what is not ours.
            Unavailable: the file cannot be opened in time.
        """
        connections = await asyncio.to_thread(_open, path, timeout_s)
        writer = Lane(connections[:1], commit, max_rows=MAX_ROWS, timeout_s=timeout_s)
        readers = Lane(connections[1:], answer, max_rows=1, timeout_s=timeout_s)
        try:
            yield cls(writer, readers)
        finally:
            await readers.close()
            await writer.close()

    async def insert(self, image: Image) -> None:
        text = image_text(image)
        await self._writer.run(lambda connection: _insert(connection, image, text))

    async def get(self, image_id: str) -> Image | None:
        return await self._one("SELECT document FROM images WHERE id = ?", image_id)

    async def replace(self, image: Image) -> bool:
        text = image_text(image)
        return await self._writer.run(lambda connection: _replace(connection, image, text))

    async def remove(self, image: Image) -> bool:
        return await self._writer.run(lambda connection: _remove(connection, image))

    async def find(self, idempotency: str) -> Image | None:
        return await self._one("SELECT document FROM images WHERE idempotency = ?", idempotency)

    async def history(
        self,
        owner: str,
        statuses: Collection[Status],
        *,
        limit: int,
        offset: int = 0,
        after: Position | None = None,
    ) -> list[Image]:
        if not statuses:
            return []
        arm = "SELECT document, created_at, id FROM shown WHERE owner = ? AND status = ?"
        position: tuple[str, ...] = ()
        if after is not None:
            arm += " AND (created_at, id) < (?, ?)"
            position = (time_text(after.created_at), after.id)
        # one sorted walk through the index for each state, merged as far as the limit and no further
        query = " UNION ALL ".join([arm] * len(statuses)) + " ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?"
        values = [value for status in statuses for value in (owner, status.value, *position)]
        return await self._many(query, *values, limit, offset)

    async def total(self, owner: str, statuses: Collection[Status]) -> int:
        query = "SELECT coalesce(sum(n), 0) FROM totals WHERE owner = ? AND status IN (SELECT value FROM json_each(?))"
        return int(await self._value(query, owner, json.dumps(list(statuses))))

    async def waiting(self, now: datetime, *, limit: int) -> list[str]:
        query = "SELECT id FROM waiting WHERE waits_since <= ? ORDER BY waits_since, id LIMIT ?"
        values = (time_text(now), limit)
        rows = await self._readers.run(lambda connection: connection.execute(query, values).fetchall())
        return [image_id for (image_id,) in rows]

    async def waiting_before(self, moment: datetime, image_id: str, *, limit: int) -> int:
        query = "SELECT count(*) FROM (SELECT 1 FROM waiting WHERE (waits_since, id) < (?, ?) LIMIT ?)"
        return int(await self._value(query, time_text(moment), image_id, limit))

    async def unsent(self, *, created_before: datetime, now: datetime, limit: int) -> list[Image]:
        query = """
            SELECT document FROM unsent WHERE created_at < ? AND (not_before IS NULL OR not_before <= ?)
            ORDER BY created_at LIMIT ?
        """
        return await self._many(query, time_text(created_before), time_text(now), limit)

    async def sent_before(self, moment: datetime, *, limit: int) -> list[Image]:
        query = """
            SELECT document FROM sent WHERE sent_at < ? AND (not_before IS NULL OR not_before < ?)
            ORDER BY sent_at LIMIT ?
        """
        return await self._many(query, time_text(moment), time_text(moment), limit)

    async def last_started(self) -> datetime | None:
        text = await self._value("SELECT max(sent_at) FROM started")
        return None if text is None else parse_time(text)

    async def running(self, *, limit: int) -> list[Image]:
        return await self._many("SELECT document FROM leased ORDER BY lease_until LIMIT ?", limit)

    async def owing(self, *, since_before: datetime, limit: int) -> list[Image]:
        query = "SELECT document FROM owing WHERE event_since < ? ORDER BY event_since LIMIT ?"
        return await self._many(query, time_text(since_before), limit)

    async def overdue(self, created_before: datetime, *, limit: int) -> list[Image]:
        query = "SELECT document FROM unfinished WHERE created_at < ? ORDER BY created_at LIMIT ?"
        return await self._many(query, time_text(created_before), limit)

    async def purgeable(self, created_before: datetime, *, limit: int) -> list[Image]:
        query = "SELECT document FROM purgeable WHERE created_at < ? ORDER BY created_at LIMIT ?"
        return await self._many(query, time_text(created_before), limit)

    async def count_purgeable(self, created_before: datetime) -> int:
        query = "SELECT count(*) FROM purgeable WHERE created_at < ?"
        return int(await self._value(query, time_text(created_before)))

    async def unburied(self, *, deleted_before: datetime, limit: int) -> list[Image]:
        query = "SELECT document FROM unburied WHERE deleted_at < ? ORDER BY deleted_at LIMIT ?"
        return await self._many(query, time_text(deleted_before), limit)

    async def tombstones(self, *, buried_before: datetime, limit: int) -> list[Image]:
        query = "SELECT document FROM tombstones WHERE buried_at < ? ORDER BY buried_at LIMIT ?"
        return await self._many(query, time_text(buried_before), limit)

    async def several(self, ids: Collection[str]) -> dict[str, Image]:
        query = "SELECT document FROM images WHERE id IN (SELECT value FROM json_each(?))"
        return {image.id: image for image in await self._many(query, json.dumps(list(ids)))}

    async def completed(self, *, after_id: str, limit: int) -> list[Image]:
        query = "SELECT document FROM shown WHERE id > ? AND status = 'completed' ORDER BY id LIMIT ?"
        return await self._many(query, after_id, limit)

    async def replace_several(self, images: Collection[Image]) -> set[str]:
        in_order, replaced = list(images), set[str]()
        for start in range(0, len(in_order), MAX_ROWS):  # a transaction each, so that other writers get their turn
            some = in_order[start : start + MAX_ROWS]
            rows = await asyncio.to_thread(_rows, some)  # before the transaction, and beside the loop
            replaced |= await self._writer.run(partial(_replace_several, images=some, rows=rows), rows=len(some))
        return replaced

    async def remove_several(self, images: Collection[Image]) -> int:
        keys = [(image.id, image.revision) for image in images]
        removed = 0
        for start in range(0, len(keys), MAX_ROWS):
            some = keys[start : start + MAX_ROWS]
            removed += await self._writer.run(partial(_remove_several, keys=some), rows=len(some))
        return removed

    async def entry(self, kind: str, key: str) -> Entry | None:
        query = "SELECT kind, key, revision, data, expires_at FROM entries WHERE kind = ? AND key = ?"
        found = await self._entries(query, kind, key)
        return found[0] if found else None

    async def entries(self, kind: str) -> list[Entry]:
        query = "SELECT kind, key, revision, data, expires_at FROM entries WHERE kind = ? ORDER BY key"
        return await self._entries(query, kind)

    async def put(self, entry: Entry) -> bool:
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

    async def discard(self, kind: str, key: str) -> bool:
        return await self._write("DELETE FROM entries WHERE kind = ? AND key = ?", kind, key) == 1

    async def expire(self, now: datetime) -> int:
        return await self._write("DELETE FROM entries WHERE expires_at <= ?", time_text(now))

    async def check(self) -> None:
        await self._value("SELECT count(*) FROM (SELECT 1 FROM images LIMIT 1)")

    async def _one(self, query: str, *values: Any) -> Image | None:
        found = await self._many(query, *values)
        return found[0] if found else None

    async def _many(self, query: str, *values: Any) -> list[Image]:
        def work(connection: sqlite3.Connection) -> list[Image]:
            rows = connection.execute(query, values).fetchall()  # all: a statement left open would hold its snapshot
            return [parse_image(text) for text, *_ in rows]

        return await self._readers.run(work)

    async def _entries(self, query: str, *values: Any) -> list[Entry]:
        rows = await self._readers.run(lambda connection: connection.execute(query, values).fetchall())
        return [
            Entry(kind, key, revision, parse_data(data), None if expires_at is None else parse_time(expires_at))
            for kind, key, revision, data, expires_at in rows
        ]

    async def _value(self, query: str, *values: Any) -> Any:
        return await self._readers.run(lambda connection: connection.execute(query, values).fetchone()[0])

    async def _write(self, query: str, *values: Any) -> int:
        return await self._writer.run(lambda connection: connection.execute(query, values).rowcount)


def _open(path: Path, timeout_s: float) -> list[sqlite3.Connection]:
    """The writer's connection, then those of the readers, to a file with our tables."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise Misconfigured(f"SQLite is {sqlite3.sqlite_version}, Darkroom needs 3.38: use a newer Python")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"STORE_URL: its folder cannot be made: {error.strerror}") from error
    tries = max(1, int(timeout_s / OPENING_PAUSE_S))
    while True:
        tries -= 1
        try:
            return schema.connect(path, readers=READERS, timeout_s=timeout_s)
        except sqlite3.Error as error:
            if not (tries and is_busy(error)):
                raise unavailable(error) from error
        time.sleep(OPENING_PAUSE_S)


def _insert(connection: sqlite3.Connection, image: Image, text: str) -> None:
    try:
        connection.execute("INSERT INTO images (id, document) VALUES (?, ?)", (image.id, text))
    except sqlite3.IntegrityError as error:
        stored = connection.execute("SELECT document FROM images WHERE id = ?", (image.id,)).fetchone()
        if stored is None:
            raise _duplicate(connection, image, error) from error
        if stored != (text,):
            raise Duplicate("id") from error


def _replace(connection: sqlite3.Connection, image: Image, text: str) -> bool:
    query = "UPDATE images SET document = ? WHERE id = ? AND revision = ?"
    try:
        return connection.execute(query, (text, image.id, image.revision - 1)).rowcount == 1
    except sqlite3.IntegrityError as error:
        raise _duplicate(connection, image, error) from error


def _rows(images: list[Image]) -> str:
    return json.dumps([(image.id, image.revision - 1, image_text(image)) for image in images], ensure_ascii=False)


def _replace_several(connection: sqlite3.Connection, *, images: list[Image], rows: str) -> set[str]:
    try:
        (replaceable,) = connection.execute(_REPLACEABLE, (rows,)).fetchone()
        connection.execute(_REPLACE_SEVERAL, (rows,))
        return set(json.loads(replaceable))
    except sqlite3.IntegrityError:  # one asks for what another image holds, and has undone them all
        return {image.id for image in images if _is_replaced(connection, image)}


def _is_replaced(connection: sqlite3.Connection, image: Image) -> bool:
    with suppress(Duplicate):
        return _replace(connection, image, image_text(image))
    return False


def _remove_several(connection: sqlite3.Connection, *, keys: list[tuple[str, int]]) -> int:
    return connection.executemany("DELETE FROM images WHERE id = ? AND revision = ?", keys).rowcount


def _duplicate(connection: sqlite3.Connection, image: Image, error: sqlite3.IntegrityError) -> Exception:
    """Which key another image holds. First the idempotency: who repeats an order wants its image, not a free place."""
    if image.idempotency and connection.execute(_HOLDER_OF_IDEMPOTENCY, (image.idempotency, image.id)).fetchone():
        return Duplicate("idempotency")
    if image.slot and connection.execute(_HOLDER_OF_SLOT, (image.slot, image.id)).fetchone():
        return Duplicate("slot")
    return error


def _remove(connection: sqlite3.Connection, image: Image) -> bool:
    query = "DELETE FROM images WHERE id = ? AND revision = ?"
    return connection.execute(query, (image.id, image.revision)).rowcount == 1
