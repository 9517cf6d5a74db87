"""The names of downloaded files with the header that carries them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from common.domain.images import Image

_WORDS: Final = 8
_MAX_CHARS: Final = 60
_MAX_BYTES: Final = 200  # in UTF-8; file systems allow 255 with seed and extension
_ATTR_CHARS: Final = "!#$&+-.^_`|~"  # unreserved in an extended value besides letters and digits (RFC 8187, 3.2.1)


def picture_name(image: Image, extension: str | None = None) -> str:
    """`<first words of the prompt>-<seed>.<extension>`: letters, digits, hyphens and one dot, of any script."""
    kind = extension or (image.image_file or "").rpartition(".")[2] or "png"
    return f"{first_words(image.prompt)}-{image.parameters.seed}.{kind}"


def first_words(prompt: str) -> str:
    """The first words of a prompt as a part of a file's name; `picture` if it has none."""
    letters = [letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in _composed(prompt)]
    words = "".join(letters).split()[:_WORDS]
    short = "-".join(words)[:_MAX_CHARS].encode()[:_MAX_BYTES].decode(errors="ignore")
    return short.rstrip("-") or "picture"


def content_disposition(name: str) -> str:
    """The header of a download with this name (RFC 6266, section 4; RFC 8187), with a name in ASCII for old clients."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "", plain)
    plain = plain if plain[:1].isalnum() else f"picture{plain}"
    if plain == name:
        return f'attachment; filename="{name}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def unlike(name: str, taken: set[str]) -> str:
    """The name, with a number if an equal one is taken; case does not count, as in many file systems."""
    stem, dot, extension = name.rpartition(".")
    found, number = name, 2
    while found.casefold() in taken:
        found, number = f"{stem}-{number}{dot}{extension}", number + 1
    taken.add(found.casefold())
    return found


def _composed(prompt: str) -> str:
    return unicodedata.normalize("NFC", prompt[: 40 * _MAX_CHARS])
