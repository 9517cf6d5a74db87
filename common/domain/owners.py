"""The name of an image's owner, as identity providers and publishers send it."""

from __future__ import annotations

import re
from typing import Final

from common.domain.errors import Invalid

MAX_CHARS: Final = 255  # OpenID Connect Core 1.0, section 2: `sub` has no more than 255 ASCII characters
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def parse_owner(text: object) -> str:
    """The unchanged name: names that differ in case or in a combining character are different owners.

    Raises:
        Invalid: it is not a text, blank, longer than 255 characters, or contains a control character.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_CHARS or _FORBIDDEN.search(text):
        raise Invalid("an owner must have 1 to 255 characters and no control characters", code="invalid_owner")
    return text


def scoped_key(owner: str, rest: str) -> str:
    """`<owner>:<rest>`, escaped so that two owners never share a key, even if they contain colons."""
    return f"{owner.replace('%', '%25').replace(':', '%3A')}:{rest}"
