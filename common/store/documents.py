"""The stored form of images and entries, for both adapters.

    Image ──image_document──▶ dict with native datetimes, `_id` and index fields      (MongoDB)
          ──image_text──────▶ JSON with times as text of one width that sorts by time (SQLite)

A field without a value is absent, never null, also in nested documents: a sparse unique index of MongoDB counts a null.
Times are UTC in whole milliseconds, the precision of BSON. Unknown fields are ignored, so that an older replica can
read what a newer one wrote; the next replace of the older one drops them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from common.domain.errors import Unavailable
from common.domain.images import Image
from common.runtime.clock import whole_ms
from common.store.port import Entry

Document = dict[str, Any]


def image_document(image: Image) -> Document:
    """The image as MongoDB stores it.

    Besides the fields of the image it holds `_id` and three fields for the indexes, which can express neither an absent
    field nor a comparison of two: `shown` unless the image is deleted, `started_sent_at` if it was started after
    `sent_at`, and `waits_since` while it is queued.
    """
    document = _plain(image.model_dump(exclude_none=True))
    document["_id"] = image.id
    if image.deleted_at is None:
        document["shown"] = True
    if image.sent_at is not None and image.started_at is not None and image.started_at >= image.sent_at:
        document["started_sent_at"] = document["sent_at"]
    if image.waits_since is not None:
        document["waits_since"] = _utc(image.waits_since)
    return document


def read_image(document: Document) -> Image:
    try:
        return Image.model_validate(document, extra="ignore")
    except ValidationError as error:
        raise _unreadable(str(document.get("_id")), error) from None


def image_text(image: Image) -> str:
    return _JSON.encode(image.model_dump(exclude_none=True))


def parse_image(text: str) -> Image:
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
    return Entry(
        kind=document["kind"],
        key=document["key"],
        revision=document["revision"],
        data=document["data"],
        expires_at=document.get("expires_at"),
    )


def entry_id(kind: str, key: str) -> str:
    """`<kind>:<key>`; a kind is a constant of the code and contains no colon."""
    return f"{kind}:{key}"


def data_text(data: Document) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def parse_data(text: str) -> Document:
    data: Document = json.loads(text)
    return data


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


def _unreadable(which: str, error: ValidationError) -> Unavailable:
    # without the values: a prompt is private
    fields = ", ".join(".".join(map(str, found["loc"])) for found in error.errors(include_input=False))
    return Unavailable("store", f"the record {which!r} cannot be read: {fields}")


# C encoder; NaN is rejected here, where only its caller fails: SQLite cannot read it in JSON
_JSON: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=time_text)
