"""Who an image belongs to: a name that others give us, and the keys in which it stands beside something else."""

from __future__ import annotations

import re
from typing import Final

from common.domain.errors import Invalid

MAX_CHARS: Final = 255  # OpenID Connect Core 1.0, section 2: `sub` has no more than 255 ASCII characters
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def parse_owner(text: object) -> str:
    """The name as it came: two that differ in case or in a combining character are two owners.

    Raises:
        Invalid: it is no text, blank, longer than 255 characters, or holds what cannot be stored or shown.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_CHARS or _FORBIDDEN.search(text):
        raise Invalid("an owner is 1 to 255 characters, none of them a control character", code="invalid_owner")
    return text


def scoped_key(owner: str, rest: str) -> str:
    """`<owner>:<rest>`, such that no other owner has the same, whatever colons either holds."""
    return f"{owner.replace('%', '%25').replace(':', '%3A')}:{rest}"
