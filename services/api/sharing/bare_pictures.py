"""Copies of pictures without metadata, shared by all requests that send the same one at the same time.

A copy is made in a thread and lives as long as it is sent. So many slow clients of a link hold one copy together, and
nothing of a deleted picture stays in memory.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from common.domain.errors import Unavailable
from common.media.port import Media
from common.provenance.found import Unmarkable
from common.provenance.marks import bare_copy

AT_ONCE: Final = 2  # are made: each holds the file and its copy in memory
MOST_KNOWN: Final = 10_000  # files of which it is known whether they have a copy
MOST: Final = 16  # are sent: a client may take minutes for one


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class BarePicture:
    content: bytes


class BarePictures:
    def __init__(self, media: Media) -> None:
        self._media = media
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._in_use: WeakValueDictionary[str, BarePicture] = WeakValueDictionary()
        self._has_copy: OrderedDict[str, bool] = OrderedDict()  # a stored file never changes

    async def get(self, key: str) -> BarePicture | None:
        """The copy of the picture under this key; None if the file is lost. Keep it until it is sent.

        Raises:
            Unmarkable: the file is signed, or not built as expected, so it has no copy.
            Unavailable: copies of many other pictures are being sent, or the media do not answer.
        """
        async with self._slots:
            bare = self._in_use.get(key)
            if bare is None:
                if len(self._in_use) >= MOST:
                    raise Unavailable("share links", f"copies of {MOST} pictures are being sent already")
                content = await self._media.get(key)
                if content is None:
                    return None
                bare = await self._make(key, content)
            return bare

    async def has_copy(self, key: str) -> bool:
        """Whether `get` can make a copy, or would if the file were there; the file is read once."""
        if key not in self._has_copy:
            with suppress(Unmarkable):
                await self.get(key)
        return self._has_copy.get(key, True)

    async def _make(self, key: str, content: bytes) -> BarePicture:
        try:
            bare = BarePicture(await asyncio.to_thread(bare_copy, content))
        except Unmarkable:
            self._remember(key, has_copy=False)
            raise
        self._remember(key, has_copy=True)
        self._in_use[key] = bare
        return bare

    def _remember(self, key: str, *, has_copy: bool) -> None:
        self._has_copy[key] = has_copy
        if len(self._has_copy) > MOST_KNOWN:
            self._has_copy.popitem(last=False)

    async def exists(self, key: str) -> bool:
        return bool(await self._media.exists([key]))
