"""What a media store does for Darkroom. The docstrings are the contract that `tests/contract/test_media.py` runs.

A key is `generated_images/YYYY/MM/<name>` or `thumbnails/YYYY/MM/<name>`, made from a record and from nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that lies in the media; `changed_at` is when it was written."""

    key: str
    size: int
    changed_at: datetime


class Media(Protocol):
    """Every method raises `Unavailable` when the media cannot be read or written."""

    async def put(self, key: str, content: bytes) -> None:
        """Keep the content, durably; a reader sees all of it or none. Writing a key again replaces it."""

    async def get(self, key: str) -> bytes | None: ...

    def path(self, key: str) -> Path | None:
        """The plain file of this key, for a server that can send files; None where media are not plain files
        or the key is not of the form above. The file may be missing."""

    async def exists(self, keys: Collection[str]) -> set[str]:
        """Those of the keys that are there."""

    async def remove(self, keys: Collection[str]) -> int:
        """Remove what is there of these; how many were. Removing twice is no error."""

    def walk(self) -> AsyncIterator[list[StoredFile]]:
        """Everything that lies there, in lists of at most 1,000, leftovers of broken writes included."""

    async def check(self) -> None:
        """Write and remove a small file. Raises Unavailable."""
