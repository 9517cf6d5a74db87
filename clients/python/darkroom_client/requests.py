"""Requests for JSON, which all operations send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from darkroom_client.effects import Send
from darkroom_client.origin import Origin

MAX_JSON: Final = 1_000_000  # bytes; an image with the longest prompts takes 50,000, ten of them half of this
TIMEOUT_S: Final = 30.0  # of a read, beyond the wait that was asked for


def json_request(
    origin: Origin,
    method: str,
    url: str,
    content: bytes | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_JSON,
    timeout_s: float = TIMEOUT_S,
) -> Send:
    """A request with the credentials of the origin; `content` is JSON."""
    sent = {"Accept": "application/json", **origin.headers_for(url), **(headers or {})}
    if content is not None:
        sent["Content-Type"] = "application/json"
    return Send(method, url, sent, max_bytes, timeout_s, content)
