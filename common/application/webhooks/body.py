"""The body of a delivery: an event as Standard Webhooks shows one, of at most 20 kB."""

from __future__ import annotations

import json
from typing import Any, Final

from common.domain.views import iso
from common.messages import ImageChanged

MAX_BODY: Final = 20_000  # bytes; the Standard Webhooks specification, "Payload size"
SHORT_TEXT: Final = 500  # characters of each long text that is left in a body that would be larger: 2 kB


def delivery_body(event: ImageChanged) -> str:
    """`{type, timestamp, data}`; long texts of a body that would be too large are cut, with `"shortened": true`."""
    data = event.data.model_dump(mode="json", by_alias=True)
    whole = _text(event, data)
    if len(whole.encode()) <= MAX_BODY:
        return whole
    short = {name: value[:SHORT_TEXT] if isinstance(value, str) else value for name, value in data.items()}
    return _text(event, {**short, "shortened": True})


def _text(event: ImageChanged, data: dict[str, Any]) -> str:
    fields = {"type": event.type, "timestamp": iso(event.time), "data": data}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
