"""The writes to the images of the SQLite store. They run in the thread of the writer, inside a transaction."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from typing import Final

from common.domain.errors import Duplicate
from common.domain.images import Image
from common.store import sqlite_search
from common.store.documents import image_text
from common.store.sqlite_search import IndexRow

# Many rows in one statement: between two statements this thread waits for the interpreter, up to 5 ms while other
# threads are busy, with the file locked. So no statement for each row, and no result row for each, as from `RETURNING`.
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


def insert(connection: sqlite3.Connection, image: Image, text: str, row: IndexRow | None) -> None:
    try:
        connection.execute("INSERT INTO images (id, document) VALUES (?, ?)", (image.id, text))
        if row is not None:
            sqlite_search.insert(connection, row)
    except sqlite3.IntegrityError as error:
        stored = connection.execute("SELECT document FROM images WHERE id = ?", (image.id,)).fetchone()
        if stored is None:
            raise _duplicate(connection, image, error) from error
        if stored != (text,):
            raise Duplicate("id") from error


def replace(connection: sqlite3.Connection, image: Image, text: str) -> bool:
    query = "UPDATE images SET document = ? WHERE id = ? AND revision = ?"
    try:
        return connection.execute(query, (text, image.id, image.revision - 1)).rowcount == 1
    except sqlite3.IntegrityError as error:
        raise _duplicate(connection, image, error) from error


def rows(images: list[Image]) -> str:
    return json.dumps([(image.id, image.revision - 1, image_text(image)) for image in images], ensure_ascii=False)


def replace_several(connection: sqlite3.Connection, *, images: list[Image], rows: str) -> set[str]:
    try:
        (replaceable,) = connection.execute(_REPLACEABLE, (rows,)).fetchone()
        connection.execute(_REPLACE_SEVERAL, (rows,))
        return set(json.loads(replaceable))
    except sqlite3.IntegrityError:  # one image needs a key that another holds, which has undone them all
        return {image.id for image in images if _is_replaced(connection, image)}


def _is_replaced(connection: sqlite3.Connection, image: Image) -> bool:
    with suppress(Duplicate):
        return replace(connection, image, image_text(image))
    return False


def remove_several(connection: sqlite3.Connection, *, keys: list[tuple[str, int]]) -> int:
    return connection.executemany("DELETE FROM images WHERE id = ? AND revision = ?", keys).rowcount


def _duplicate(connection: sqlite3.Connection, image: Image, error: sqlite3.IntegrityError) -> Exception:
    """The key that another image holds; idempotency first: a repeated request needs its image, not a free slot."""
    if image.idempotency and connection.execute(_HOLDER_OF_IDEMPOTENCY, (image.idempotency, image.id)).fetchone():
        return Duplicate("idempotency")
    if image.slot and connection.execute(_HOLDER_OF_SLOT, (image.slot, image.id)).fetchone():
        return Duplicate("slot")
    return error


def remove(connection: sqlite3.Connection, image: Image) -> bool:
    query = "DELETE FROM images WHERE id = ? AND revision = ?"
    return connection.execute(query, (image.id, image.revision)).rowcount == 1
