"""The stored form of images and entries, for both adapters.

    Image ──image_document──▶ dict with native datetimes, `_id` and index fields      (MongoDB)
          ──image_text──────▶ JSON with times as text of one width that sorts by time (SQLite)

A field without a value is absent, never null, also in nested documents: a sparse unique index of MongoDB counts a null.
Times are UTC in whole milliseconds, the precision of BSON. Unknown fields are ignored, so that an older replica can
read what a newer one wrote; the next replace of the older one drops them.

A record that cannot be read costs only itself: a list leaves it out, with one warning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from common.domain.errors import Unreadable
from common.domain.images import Image
from common.domain.search import HistoryPosition, words_of
from common.runtime import metrics
from common.runtime.clock import whole_ms
from common.runtime.logs import OncePerKey
from common.store.port import Entry

log = logging.getLogger(__name__)

Document = dict[str, Any]
Stored = TypeVar("Stored")
Read = TypeVar("Read")
_warned = OncePerKey()


def image_document(image: Image) -> Document:
    """The image as MongoDB stores it.

    Besides the fields of the image it holds `_id` and fields for the indexes, which can express neither an absent field
    nor a comparison of two: `shown` and the `words` of the prompt unless the image is deleted, `started_sent_at` if it
    was started after `sent_at`, and `waits_since` (`queued_since` of the image) while it is in the queue.
    """
    document = _plain(image.model_dump(exclude_none=True))
    document["_id"] = image.id
    if image.deleted_at is None:
        document["shown"] = True
        document["words"] = words_of(image.prompt)
    if image.sent_at is not None and image.started_at is not None and image.started_at >= image.sent_at:
        document["started_sent_at"] = document["sent_at"]
    if image.queued_since is not None:
        document["waits_since"] = _utc(image.queued_since)
    return document


def read_image(document: Document) -> Image:
    """Raises Unreadable."""
    try:
        return Image.model_validate(document, extra="ignore")
    except ValidationError as error:
        raise _unreadable(str(document.get("_id")), error) from None


def readable(stored: Iterable[Stored], read: Callable[[Stored], Read]) -> list[Read]:
    """What can be read of these; each of the others is counted, and logged once."""
    found: list[Read] = []
    for each in stored:
        try:
            found.append(read(each))
        except Unreadable as error:
            metrics.skipped.labels("store").inc()
            if _warned.is_new(error.detail):
                log.warning("left out: %s", error.detail)
    return found


async def read_page(
    fetch: Callable[[int, int], Awaitable[tuple[list[Read], int]]], *, limit: int, offset: int = 0
) -> list[Read]:
    """The first `limit` images or entries that can be read.

    `fetch(limit, offset)` returns the readable ones of a page, and how many records the page has. Further pages are
    read only in place of records that cannot be read: else these would fill the page of a janitor, or end a history.
    """
    found: list[Read] = []
    while True:
        wanted = limit - len(found)
        page, count = await fetch(wanted, offset)
        found += page
        offset += count
        if count < wanted or len(found) == limit:
            return found


def in_turn(images: Iterable[Image], *, oldest_first: bool = True) -> list[Image]:
    """The images in the order of their turns, or in its reverse."""
    return sorted(images, key=lambda image: HistoryPosition.of(image).order, reverse=not oldest_first)


def cut_page(
    images: Iterable[Image], *, limit: int, offset: int, after: HistoryPosition | None, oldest_first: bool
) -> list[Image]:
    """A page of the history of a few images, such as those of a batch."""
    found = in_turn(images, oldest_first=oldest_first)
    if after is not None:
        at = after.order
        placed = ((HistoryPosition.of(image).order, image) for image in found)
        found = [image for order, image in placed if (order > at if oldest_first else order < at)]
    return found[offset : offset + limit]


def image_text(image: Image) -> str:
    return _JSON.encode(image.model_dump(exclude_none=True))


def parse_image(text: str) -> Image:
    """Raises Unreadable."""
    try:
        return Image.model_validate_json(text, extra="ignore")
    except ValidationError as error:
        raise _unreadable(text[:44], error) from None  # the id comes first


def entry_document(entry: Entry) -> Document:
    document: Document = {
        "_id": entry_id(entry.kind, entry.key),
        "kind": entry.kind,
        "key": entry.key,
        "revision": entry.revision,
        "data": entry.data,
    }
    if entry.expires_at is not None:
        document["expires_at"] = _utc(entry.expires_at)
    return document


def read_entry(document: Document) -> Entry:
    """Raises Unreadable."""
    kind, key, revision, data = (document.get(name) for name in ("kind", "key", "revision", "data"))
    expires_at = document.get("expires_at")
    if isinstance(data, dict) and isinstance(revision, int) and isinstance(expires_at, datetime | None):
        return Entry(str(kind), str(key), revision, data, expires_at)
    raise Unreadable("store", f"the entry {document.get('_id')!r} cannot be read")


def entry_id(kind: str, key: str) -> str:
    """`<kind>:<key>`; a kind is a constant of the code and contains no colon."""
    return f"{kind}:{key}"


def data_text(data: Document) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def parse_entry(row: tuple[str, str, int, str, str | None]) -> Entry:
    """Raises Unreadable."""
    kind, key, revision, text, expires_at = row
    try:
        data = json.loads(text)
        expiry = None if expires_at is None else parse_time(expires_at)
    except (ValueError, RecursionError):
        data, expiry = None, None
    if not isinstance(data, dict):
        raise Unreadable("store", f"the entry {entry_id(kind, key)!r} cannot be read")
    return Entry(kind, key, revision, data, expiry)


def time_text(moment: datetime) -> str:
    """`2025-01-15T12:00:00.000Z`: always of this width, so that the text sorts by time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _plain(fields: Document) -> Document:
    """Convert the times and enums of a model's dump, in place, to what MongoDB accepts."""
    for name, value in fields.items():
        if isinstance(value, datetime):
            fields[name] = _utc(value)
        elif isinstance(value, dict):
            _plain(value)
        elif isinstance(value, str):
            fields[name] = str(value)  # an enum to its value
    return fields


def _utc(moment: datetime) -> datetime:
    return whole_ms(moment.astimezone(UTC))


def _unreadable(which: str, error: ValidationError) -> Unreadable:
    # without the values: a prompt is private
    fields = ", ".join(".".join(map(str, found["loc"])) for found in error.errors(include_input=False))
    return Unreadable("store", f"the record {which!r} cannot be read: {fields[:300]}")


# C encoder; NaN is rejected here, where only its caller fails: SQLite cannot read it in JSON
_JSON: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=time_text)
