"""Texts from other services, limited in length and alphabet."""

from __future__ import annotations

import re
from typing import Final

MAX_DETAIL: Final = 500  # characters of an error's text: a sentence or two, also in a log line
MAX_CODE: Final = 64
UNKNOWN_CODE: Final = "internal"

# What breaks a line or a JSON encoder, or reverses the text around it: control characters, line and paragraph
# separators, embeddings and isolates of the bidirectional algorithm, lone surrogates, noncharacters.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_CODE: Final = re.compile(r"[a-z][a-z0-9_]*")
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def clean_text(text: str, max_chars: int = MAX_DETAIL) -> str:
    """The text in one line: forbidden characters and white space become one space, the end is cut off."""
    head = text[: max_chars * 4]  # white space may be removed; a text of megabytes is not searched
    line = " ".join(_FORBIDDEN.sub(" ", head).split())
    return line if len(line) <= max_chars else f"{line[: max_chars - 1]}…"


def is_code(text: str) -> bool:
    """Whether the text has the form of our stable error codes."""
    return len(text) <= MAX_CODE and _CODE.fullmatch(text) is not None


def clean_code(text: str) -> str:
    return text if is_code(text) else UNKNOWN_CODE


def clean_traceparent(text: object) -> str | None:
    """The trace parent (W3C Trace Context, section 3.2); None if it is malformed, as a receiver must ignore it."""
    return text if isinstance(text, str) and _TRACEPARENT.fullmatch(text) else None
