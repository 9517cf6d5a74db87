"""The forms of keys of the media."""

from __future__ import annotations

import re
from typing import Final

from common.domain.errors import Invalid

FOLDERS: Final = ("generated_images", "thumbnails", "renditions")

_NAME: Final = r"[0-9a-f-]{36}(?:-[0-9]{1,9})?\.(?:png|jpg|webp)(?:\.[0-9]{1,4}\.webp)?"
_KEY: Final = re.compile(rf"(?:{'|'.join(FOLDERS)})/[0-9]{{4}}/[0-9]{{2}}/{_NAME}")
_LEFTOVER: Final = re.compile(rf"(?:{'|'.join(FOLDERS)})/[0-9]{{4}}/[0-9]{{2}}/\.{_NAME}\.[0-9a-f]{{16}}\.part")
_PROBE: Final = f"{'0' * 8}-0000-0000-0000-{'0' * 12}.png"  # a leftover of it has the form that `walk` lists


def is_key(key: str) -> bool:
    return _KEY.fullmatch(key) is not None


def is_listed(key: str) -> bool:
    """Whether `walk` lists it: a key, or the key of a leftover."""
    return is_key(key) or _LEFTOVER.fullmatch(key) is not None


def require_key(key: str) -> str:
    """The key. Keys are made from records only; this check is a second line of defence.

    Raises:
        Invalid: the key is malformed.
    """
    if is_key(key):
        return key
    raise _invalid(key)


def require_listed(key: str) -> str:
    """The key, which may be that of a leftover.

    Raises:
        Invalid: the key is malformed.
    """
    if is_listed(key):
        return key
    raise _invalid(key)


def leftover(name: str, random: str) -> str:
    """The name of a temporary file, from 16 random hexadecimal digits."""
    return f".{name}.{random}.part"


def probe(random: str) -> str:
    """The name of the file that a check writes."""
    return leftover(_PROBE, random)


def _invalid(key: str) -> Invalid:
    return Invalid(f"malformed media key: {key[:100]!r}", code="invalid_key")
