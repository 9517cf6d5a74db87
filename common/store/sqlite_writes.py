"""The writes to the images of the SQLite store. They run in the thread of the writer, inside a transaction."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from datetime import datetime
from typing import Final

from common.domain.errors import Duplicate
from common.domain.images import FINAL, Image, Status
from common.domain.search import words_of
from common.store.documents import image_text, parse_time
from common.store.port import IndexedPage
from common.store.sqlite_search import (
    LAST_OF_MS,
    MODEL_TOKENS,
    OWNER_TOKENS,
    PINNED_MARK,
    STATUS_TOKENS,
    first_rowid,
    token_of,
)

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
_INSERT_WORDS: Final = """
    INSERT OR IGNORE INTO searched (docid, image_id, words, about, facets)
    SELECT coalesce((SELECT max(docid) + 1 FROM searched WHERE docid BETWEEN :first AND :last), :first),
        :id, :words, :about, :facets
"""
_NOT_INDEXED: Final = """
    SELECT id, document ->> '$.prompt', owner, document ->> '$.model', created_at, status, pinned FROM images
    WHERE id > ? AND id <= ? AND deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM searched WHERE image_id = images.id)
"""
ALL_INDEXED: Final = "SELECT (SELECT count(*) FROM searched) = (SELECT coalesce(sum(n), 0) FROM totals)"

IndexRow = dict[str, str | int | None]


def insert(connection: sqlite3.Connection, image: Image, text: str, row: IndexRow | None) -> None:
    try:
        connection.execute("INSERT INTO images (id, document) VALUES (?, ?)", (image.id, text))
        if row is not None:
            connection.execute(_INSERT_WORDS, row)
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


def index_row(image: Image) -> IndexRow | None:
    """What `searched` holds of a new image; None for one that is deleted already."""
    if image.deleted_at is not None:
        return None
    facets = _facets(image.status, is_pinned=image.pinned)
    return _row(image.id, image.prompt, (image.owner, image.model), image.created_at, facets)


def index_page(connection: sqlite3.Connection, *, after_id: str, limit: int) -> IndexedPage:
    """Index the missing ones of a page of images. In a write, so that none of them changes meanwhile."""
    query = "SELECT count(*), max(id) FROM (SELECT id FROM images WHERE id > ? ORDER BY id LIMIT ?)"
    (count, last_id) = connection.execute(query, (after_id, limit)).fetchone()
    if not count:
        return IndexedPage(0, None)
    missing = connection.execute(_NOT_INDEXED, (after_id, last_id)).fetchall()
    for image_id, prompt, owner, model, created_at, status, pinned in missing:
        with suppress(ValueError):  # a damaged record is in no list either
            moment = parse_time(created_at)
            facets = _facets(Status(status), is_pinned=bool(pinned))
            connection.execute(_INSERT_WORDS, _row(image_id, str(prompt), (owner, str(model)), moment, facets))
    return IndexedPage(len(missing), last_id if count == limit else None)


def _row(
    image_id: str, prompt: str, owner_and_model: tuple[str, str], created_at: datetime, facets: str | None
) -> IndexRow:
    first = first_rowid(created_at)
    owner, model = owner_and_model
    return {
        "first": first,
        "last": first + LAST_OF_MS,
        "id": image_id,
        "words": f" {' '.join(words_of(prompt))} ",
        "about": f"{token_of(owner, OWNER_TOKENS)} {token_of(model, MODEL_TOKENS)}",
        "facets": facets,
    }


def _facets(status: Status, *, is_pinned: bool) -> str | None:
    """As the trigger writes them."""
    return None if status not in FINAL else STATUS_TOKENS[status] + (f" {PINNED_MARK}" if is_pinned else "")
