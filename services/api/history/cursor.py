"""The cursor of the history: a position in it with a hash of the filters that it belongs to."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Final

from common.domain.errors import Invalid
from common.domain.images import Image
from common.domain.search import HistoryPosition
from common.domain.views import iso
from services.api.history.query import HistoryQuery

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def encode_cursor(image: Image, query: HistoryQuery) -> str:
    """The position of an image in the history with these filters."""
    index = f"{image.batch.index}." if image.batch is not None else ""
    return f"{(image.created_at - _EPOCH) // _MS:013d}.{index}{image.id}.{_hash_of(query)}"


def decode_cursor(cursor: str, query: HistoryQuery) -> HistoryPosition:
    """The query's model has checked the form.

    Raises:
        Invalid: `cursor_mismatch`, it is the cursor of a history with other filters.
    """
    milliseconds, *index, last = cursor.split(".")
    if len(last) == len(_hash_of(query)):
        *index, image_id = index
        if last != _hash_of(query):
            raise _mismatch()
    else:  # of a release without filters
        image_id = last
        if query.filter().is_more_than_batch or query.oldest_first:
            raise _mismatch()
    created_at = _EPOCH + int(milliseconds) * _MS
    return HistoryPosition(created_at, image_id, index=int(index[0]) if index else None)


def _hash_of(query: HistoryQuery) -> str:
    """What selects and orders the images, and nothing else: `Fox` and `fox` are the same search."""
    where = query.filter()
    times = [moment and iso(moment) for moment in (where.since, where.until)]
    terms = sorted((term.text, term.is_prefix) for term in where.terms)
    values = [query.status, query.sort, terms, where.model, times, where.pinned, where.batch_id]
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=4).hexdigest()


def _mismatch() -> Invalid:
    return Invalid("the cursor belongs to other filters: begin without a cursor", code="cursor_mismatch")
