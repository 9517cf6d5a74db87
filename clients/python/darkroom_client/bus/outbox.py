"""Where a publisher keeps its messages until the broker has confirmed them.

store ─▶ publish ─▶ confirm ─▶ mark_sent          a process that dies in between sends them again at its next start
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

BATCH: Final = 500  # messages that are read at once


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as it is sent; the same `id` twice makes one image."""

    id: str
    key: str  # the routing key
    body: bytes


class Outbox(Protocol):
    """Implement it over your own database, in the transaction of what the order belongs to."""

    async def store(self, message: StoredMessage) -> None:
        """Keep a message; called before it is sent."""

    async def mark_sent(self, message_id: str) -> None:
        """The broker has it; forget it. It may be called twice."""

    async def pending(self) -> Sequence[StoredMessage]:
        """The oldest messages that are not marked as sent; empty if there are none."""


class SqliteOutbox:
    """An outbox in a file of its own."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with closing(self._open()) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS outbox"
                " (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL)"
            )

    async def store(self, message: StoredMessage) -> None:
        insert = "INSERT OR IGNORE INTO outbox (id, key, body) VALUES (?, ?, ?)"
        await asyncio.to_thread(self._write, insert, (message.id, message.key, message.body))

    async def mark_sent(self, message_id: str) -> None:
        await asyncio.to_thread(self._write, "DELETE FROM outbox WHERE id = ?", (message_id,))

    async def pending(self) -> Sequence[StoredMessage]:
        return await asyncio.to_thread(self._read)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)

    def _write(self, statement: str, values: tuple[str | bytes, ...]) -> None:
        with closing(self._open()) as database, database:
            database.execute(statement, values)

    def _read(self) -> list[StoredMessage]:
        with closing(self._open()) as database:
            rows = database.execute("SELECT id, key, body FROM outbox ORDER BY number LIMIT ?", (BATCH,)).fetchall()
        return [StoredMessage(*row) for row in rows]
