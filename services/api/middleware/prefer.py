"""The Prefer header of an HTTP request (RFC 7240, section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = rf"(?:\s*=\s*({_WORD}|\"(?:[^\"\\]|\\.)*\")?)?"
_PREFERENCE: Final = re.compile(rf"\s*({_WORD}){_VALUE}((?:\s*;(?:\s*{_WORD}{_VALUE})?)*)\s*(?:,|$)")
_REST: Final = re.compile(r"[^,]*(?:,|$)")


def parse_prefer(lines: Iterable[str]) -> dict[str, str]:
    """The preferences of all Prefer headers by name in lower case; the first of a name counts, parameters are ignored.

    A preference that cannot be read is ignored.
    """
    found: dict[str, str] = {}
    for line in lines:
        start = 0
        while start < len(line):
            match = _PREFERENCE.match(line, start)
            if match is not None:
                found.setdefault(match[1].lower(), _unquoted(match[2] or ""))
            end = match.end() if match is not None else _end_of_unreadable(line, start)
            start = end
    return found


def _end_of_unreadable(line: str, start: int) -> int:
    match = _REST.match(line, start)
    return match.end() if match is not None and match.end() > start else len(line)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
