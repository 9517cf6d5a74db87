"""The full-text index of the SQLite store.

    images ──insert──▶ searched (words, tokens) ──once it is final──▶ search (FTS5, the tokens of `searched`)
           ──change, delete──▶ both follow by triggers

A rowid of `search` begins with the image's time, so its rows are read in the order of the history, up to the limit and
no further. Besides the words, an image has tokens for its owner, model, status and pin: each filter is one more list of
rowids to intersect. Unfinished images change often and are few: they are searched in `searched`, without the index.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from common.domain.images import FINAL, Status
from common.domain.search import HistoryFilter, HistoryPosition, Term
from common.store.documents import time_text

# Rowids of one millisecond: more images than that in one are not searchable. Fewer bits make the index smaller.
_BITS: Final = 12
LAST_OF_MS: Final = (1 << _BITS) - 1
_MAX_ROWID: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = "document, created_at, batch_index, id"

# Tokens that no word can equal: private-use characters, which are neither letters nor digits nor symbols. FTS5 stores a
# token of each length of prefix as well, so they are short.
_DIGITS: Final = 3000
OWNER_TOKENS: Final = 0xE000
MODEL_TOKENS: Final = OWNER_TOKENS + _DIGITS
STATUS_TOKENS: Final = {Status.COMPLETED: "\uf800", Status.FAILED: "\uf801", Status.CANCELLED: "\uf802"}
PINNED_MARK: Final = "\uf803"

_FACETS: Final = f"""
    CASE new.status
        WHEN 'completed' THEN '{STATUS_TOKENS[Status.COMPLETED]}'
        WHEN 'failed' THEN '{STATUS_TOKENS[Status.FAILED]}'
        WHEN 'cancelled' THEN '{STATUS_TOKENS[Status.CANCELLED]}'
    END || CASE WHEN new.pinned THEN ' {PINNED_MARK}' ELSE '' END
"""
SINCE_VERSION_5: Final = (
    """
    CREATE TABLE searched (
        docid INTEGER NOT NULL PRIMARY KEY,
        image_id TEXT NOT NULL UNIQUE,
        words TEXT NOT NULL,
        about TEXT NOT NULL,
        facets TEXT,
        tokens TEXT AS (about || words || facets)
    ) STRICT
    """,
    # the words are folded already, so this tokenizer only has to split at spaces; it keeps all of Unicode. A prefix of
    # another length reads the lists of all its words before the first row: 200 ms for a frequent one among 200,000
    # images, against 1 ms.
    """
    CREATE VIRTUAL TABLE search USING fts5(
        tokens, content = 'searched', content_rowid = 'docid', tokenize = 'ascii', detail = none, columnsize = 0,
        prefix = '2 3 4 5 6 7 8 9 10 11 12 13 14'
    )
    """,
    """
    CREATE TRIGGER search_insert AFTER INSERT ON searched WHEN new.facets IS NOT NULL BEGIN
        INSERT INTO search (rowid, tokens) VALUES (new.docid, new.about || new.words || new.facets);
    END
    """,
    """
    CREATE TRIGGER search_update AFTER UPDATE ON searched BEGIN
        INSERT INTO search (search, rowid, tokens) SELECT 'delete', old.docid, old.about || old.words || old.facets
            WHERE old.facets IS NOT NULL;
        INSERT INTO search (rowid, tokens) SELECT new.docid, new.about || new.words || new.facets
            WHERE new.facets IS NOT NULL;
    END
    """,
    """
    CREATE TRIGGER search_delete AFTER DELETE ON searched WHEN old.facets IS NOT NULL BEGIN
        INSERT INTO search (search, rowid, tokens) VALUES ('delete', old.docid, old.about || old.words || old.facets);
    END
    """,
    f"""
    CREATE TRIGGER searched_update AFTER UPDATE ON images
    WHEN (old.status, old.pinned, old.deleted_at IS NULL) != (new.status, new.pinned, new.deleted_at IS NULL) BEGIN
        UPDATE searched SET facets = {_FACETS} WHERE image_id = new.id AND facets IS NOT {_FACETS}
            AND new.deleted_at IS NULL;
        DELETE FROM searched WHERE image_id = new.id AND new.deleted_at IS NOT NULL;
    END
    """,  # noqa: S608 - constants of this module
    """
    CREATE TRIGGER searched_delete AFTER DELETE ON images BEGIN
        DELETE FROM searched WHERE image_id = old.id;
    END
    """,
)

_LARGE_PART: Final = 0.1  # of all images: to intersect such a list takes longer than to skip the rows of other owners
Arm = tuple[str, tuple[Any, ...]]  # a part of a UNION, with its values


@dataclass(frozen=True, slots=True)
class Search:
    """The conditions of one search, as SQL."""

    owner: str
    statuses: Collection[Status]
    where: HistoryFilter
    after: HistoryPosition | None = None
    oldest_first: bool = False

    def documents(self, connection: sqlite3.Connection, limit: int, offset: int) -> list[str]:
        """The documents of a page."""
        arms = [self._final_images(connection, limit + offset), *self._active_images(_COLUMNS)]
        way = "ASC" if self.oldest_first else "DESC"
        query = " UNION ALL ".join(text for text, _ in arms)
        query += f" ORDER BY created_at {way}, batch_index {way}, id {way} LIMIT ? OFFSET ?"
        values = [value for _, some in arms for value in some]
        return [text for text, *_ in connection.execute(query, (*values, limit, offset)).fetchall()]

    def count(self, connection: sqlite3.Connection, limit: int | None) -> int:
        """The number of all that is found, counted up to the limit."""
        found = self._matches(connection, "1")
        arms = [*([found] if found else ()), *self._active_images("1")]
        if not arms:
            return 0
        query = f"SELECT count(*) FROM ({' UNION ALL '.join(text for text, _ in arms)} LIMIT ?)"  # noqa: S608
        values = [value for _, some in arms for value in some]
        return int(connection.execute(query, (*values, -1 if limit is None else limit)).fetchone()[0])

    def _matches(
        self, connection: sqlite3.Connection, columns: str, bounds: tuple[int, int] | None = None
    ) -> Arm | None:
        """What the index finds among the final images, within these rowids or those of the times in question.

        None if no status of a final image is wanted.
        """
        wanted = [STATUS_TOKENS[status] for status in STATUS_TOKENS if status in self.statuses]
        if not wanted:
            return None
        owner = token_of(self.owner, OWNER_TOKENS)
        parts = [_expression(term) for term in self.where.terms]
        if self.where.model is not None:
            parts.append(_quoted(token_of(self.where.model, MODEL_TOKENS)))
        if self.where.pinned:
            parts.append(_quoted(PINNED_MARK))
        if Status.COMPLETED not in self.statuses:
            parts.append(f"({' OR '.join(map(_quoted, wanted))})")
        if not parts or not self._has_much(connection):
            parts.append(_quoted(owner))
        match = " AND ".join(parts)
        if self.where.pinned is False:
            match = f"({match}) NOT {_quoted(PINNED_MARK)}"
        # most images are completed, and many stores have one owner: to intersect such a long list costs more than to
        # look at the rows that are found
        text = f"""
            SELECT {columns} FROM search CROSS JOIN searched ON docid = search.rowid
            WHERE search MATCH ? AND search.rowid BETWEEN ? AND ?
            AND substr(about, 1, {len(owner)}) = ? AND instr(?, substr(facets, 1, 1)) > 0
        """  # noqa: S608 - constants of this module
        return text, (match, *(bounds or self._range()), owner, "".join(wanted))

    def _has_much(self, connection: sqlite3.Connection) -> bool:
        """Whether a large part of the images is the owner's; only a guess that decides how they are found."""
        query = "SELECT (SELECT sum(n) FROM totals WHERE owner = ?) >= (SELECT max(rowid) FROM images) * ?"
        return bool(connection.execute(query, (self.owner, _LARGE_PART)).fetchone()[0])

    def _range(self) -> tuple[int, int]:
        """The first and the last rowid of the times in question."""
        first = 0 if self.where.since is None else first_rowid(self.where.since)
        last = _MAX_ROWID if self.where.until is None else first_rowid(self.where.until) - 1
        if self.after is not None and self.oldest_first:
            first = max(first, first_rowid(self.after.created_at))
        elif self.after is not None:
            last = min(last, first_rowid(self.after.created_at) + LAST_OF_MS)
        return first, last

    def _final_images(self, connection: sqlite3.Connection, number: int) -> Arm:
        """The final images that hold the first `number`.

        The index knows the order up to the millisecond: so all of the last millisecond, and of that of the position.
        """
        if self.after is not None:
            at = first_rowid(self.after.created_at)
            crowd = "SELECT count(*) FROM searched WHERE docid BETWEEN ? AND ?"
            number += connection.execute(crowd, (at, at + LAST_OF_MS)).fetchone()[0]
        way = "ASC" if self.oldest_first else "DESC"
        rowids = self._rowids(connection, None, f"ORDER BY search.rowid {way} LIMIT {number}")
        if len(rowids) == number:
            last = rowids[-1]
            same_ms = (last + 1, last | LAST_OF_MS) if self.oldest_first else (last & ~LAST_OF_MS, last - 1)
            rowids += self._rowids(connection, same_ms)
        times, values = self._times()
        text = f"""
            SELECT {_COLUMNS} FROM searched CROSS JOIN images ON images.id = image_id
            WHERE docid IN (SELECT value FROM json_each(?)) AND owner = ? AND deleted_at IS NULL {times}
        """  # noqa: S608 - constants of this module
        return text, (json.dumps(rowids), self.owner, *values)

    def _rowids(self, connection: sqlite3.Connection, bounds: tuple[int, int] | None, in_order: str = "") -> list[int]:
        found = self._matches(connection, "search.rowid", bounds)
        if found is None:
            return []
        text, values = found
        return [rowid for (rowid,) in connection.execute(f"{text} {in_order}", values).fetchall()]

    def _times(self) -> Arm:
        """The conditions for the times, as more of a WHERE, with their values."""
        times = time_conditions(self.where, self.after, oldest_first=self.oldest_first)
        return "".join(f" AND {text}" for text, _ in times), tuple(value for _, values in times for value in values)

    def _active_images(self, columns: str) -> Iterable[Arm]:
        """The unfinished images, of each status."""
        condition, values = self._times()
        for text, value in (
            *(("instr(words, ?) > 0", f" {term.text}{'' if term.is_prefix else ' '}") for term in self.where.terms),
            ("document ->> '$.model' = ?", self.where.model),
            ("pinned = ?", self.where.pinned),
        ):
            if value is not None:
                condition += f" AND {text}"
                values += (value,)
        for status in self.statuses:
            if status not in FINAL:
                text = f"""
                    SELECT {columns} FROM shown CROSS JOIN searched ON image_id = id
                    WHERE owner = ? AND status = ? {condition}
                """  # noqa: S608 - constants of this module
                yield text, (self.owner, status.value, *values)


def time_conditions(
    where: HistoryFilter, after: HistoryPosition | None = None, *, oldest_first: bool = False
) -> list[tuple[str, tuple[Any, ...]]]:
    """The conditions for the time of creation, each with its values: at most one bound for each end of the index scan.

    Of two, SQLite would take either, and read all rows up to the other one.
    """
    since, until = where.since, where.until
    if after is not None and oldest_first and (since is None or after.created_at >= since):
        since = None
    elif after is not None and not oldest_first and (until is None or after.created_at < until):
        until = None
    else:
        after = None  # the times begin after it
    bounds = (("created_at >= ?", since), ("created_at < ?", until))
    conditions: list[tuple[str, tuple[Any, ...]]] = [
        (text, (time_text(bound),)) for text, bound in bounds if bound is not None
    ]
    return [*conditions, *([_after_position(after, oldest_first=oldest_first)] if after is not None else ())]


def _after_position(after: HistoryPosition, *, oldest_first: bool) -> tuple[str, tuple[Any, ...]]:
    """The condition for the images after a position, and its values."""
    moment, sign = time_text(after.created_at), ">" if oldest_first else "<"
    # the first condition bounds the index scan, the second skips images of the same moment
    condition = f"created_at {sign}= ? AND (created_at, coalesce(batch_index, -1), id) {sign} (?, ?, ?)"
    return condition, (moment, moment, *after.order[1:])


def first_rowid(moment: datetime) -> int:
    return max(0, (moment - _EPOCH) // timedelta(milliseconds=1)) << _BITS


def token_of(text: str, first: int) -> str:
    """A token of four characters for an owner or a model: 46 bits of its hash."""
    number = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    digits = []
    for _ in range(4):
        number, digit = divmod(number, _DIGITS)
        digits.append(chr(first + digit))
    return "".join(digits)


def _expression(term: Term) -> str:
    return _quoted(term.text) + ("*" if term.is_prefix else "")


def _quoted(token: str) -> str:
    return f'"{token}"'
