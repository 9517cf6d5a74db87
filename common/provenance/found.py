"""The port to the file formats of pictures: what a file says about its origin, what can be added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

MAX_TEXT_BYTES: Final = 262_144  # unpacked; two full prompts take 32 kB


class Unmarkable(ValueError):
    """The file cannot take this mark: a part of it is malformed, too large, or already in use."""


@dataclass(frozen=True, slots=True)
class Found:
    """`is_signed`: it has a C2PA manifest, which any change would make invalid. `parameters`: settings, as text."""

    is_signed: bool = False
    xmp: bytes | None = None
    parameters: str | None = None


class MarkContainer(Protocol):
    """A file format. Nothing of a file is changed but the marks; the bytes of its pixels stay the same."""

    max_xmp_bytes: int

    def read(self, content: bytes) -> Found: ...

    def add_xmp(self, content: bytes, packet: bytes, *, replaces: bool) -> bytes:
        """Add the packet; with `replaces`, in place of the first that is there. Raises Unmarkable."""
        ...

    def add_parameters(self, content: bytes, text: str) -> bytes:
        """Add the text. Raises Unmarkable."""
        ...

    def without_metadata(self, content: bytes) -> bytes:
        """The file with what is needed to show its pixels, and nothing else. Raises Unmarkable."""
        ...
