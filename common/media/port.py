"""The media store. The docstrings are the contract that `tests/contract/test_media.py` checks.

A key is `generated_images/YYYY/MM/<name>`, `thumbnails/YYYY/MM/<name>` or `renditions/YYYY/MM/<name>`, and is made from
a record only.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file; `size` in bytes, `changed_at` is when it was written."""

    key: str
    size: int
    changed_at: datetime

    @property
    def image_id(self) -> str | None:
        """The id of the image that the key is made from; None if the key holds none."""
        found = _ID.search(self.key)
        return found[0] if found else None

    @property
    def is_leftover(self) -> bool:
        """Whether it is what an interrupted write or check has left, rather than a picture."""
        return "/." in self.key


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What tells one content of a key from another; `etag` without quotes, and equal for equal contents only."""

    size: int
    etag: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file, and the version of the whole."""

    content: bytes
    version: FileVersion


@dataclass(frozen=True, slots=True)
class PublicLink:
    """A URL under which browsers can read a file without the api; a client may use it again for `fresh_s`."""

    url: str
    fresh_s: int


class Media(Protocol):
    """Every method raises `Unavailable` if the media cannot be read or written.

    The methods with a key raise `Invalid` if it is malformed, where they do not say otherwise.
    """

    async def put(self, key: str, content: bytes) -> None:
        """Store the content durably; a reader sees all of it or none. Writing a key again replaces it.

        A cancelled call ends after its write has ended: then the file is there or not, and does not appear later.
        """

    async def get(self, key: str) -> bytes | None:
        """The content; None if there is no such file."""

    async def version(self, key: str) -> FileVersion | None:
        """The version of the file; None if there is no such file."""

    async def read(self, key: str, *, start: int, length: int) -> FilePart | None:
        """At most `length` bytes from `start` on, fewer only at the end of the file; None if there is no such file."""

    async def link(self, key: str) -> PublicLink | None:
        """Where browsers can read this file themselves; None if nowhere, or if there is no such file."""

    def path(self, key: str) -> Path | None:
        """The plain file of this key, for a server that can send files; the file may be missing.

        None if the media are no plain files, or the key is malformed.
        """

    async def exists(self, keys: Collection[str]) -> set[str]:
        """The keys whose files exist; a malformed key never does."""

    async def remove(self, keys: Collection[str]) -> None:
        """Remove the files that exist. Removing a file twice is no error."""

    def walk(self) -> AsyncIterator[list[StoredFile]]:
        """All files, in lists of at most 1,000, including leftovers of interrupted writes."""

    async def marker(self) -> str | None:
        """The id of the store that these media belong to; None if none was set."""

    async def mark(self, store_id: str) -> None:
        """Let the media belong to this store; from then on `check` fails while their marker is missing or another."""

    async def checkpoint(self) -> int | None:
        """The number that `set_checkpoint` has written last; None if there is none, or if it is damaged."""

    async def set_checkpoint(self, number: int) -> None:
        """Write the number durably beside the files, so that a backup of them contains it."""

    async def check(self) -> None:
        """Write and remove a small file where new pictures go. Raises Unavailable."""
