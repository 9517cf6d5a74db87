"""Copies of pictures without metadata, shared by all requests that send the same one at the same time.

A copy is made in a thread and lives as long as it is sent. So many slow clients of a link hold one copy together, and
nothing of a deleted picture stays in memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from common.media.port import Media
from common.provenance.marks import bare_copy

AT_ONCE: Final = 2  # each holds the file and its copy in memory


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class BarePicture:
    content: bytes


class BarePictures:
    def __init__(self, media: Media) -> None:
        self._media = media
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._in_use: WeakValueDictionary[str, BarePicture] = WeakValueDictionary()

    async def get(self, key: str) -> BarePicture | None:
        """The copy of the picture under this key; None if the file is lost. Keep it until it is sent.

        Raises:
            Unmarkable: the file is signed, or not built as expected, so it has no copy.
        """
        async with self._slots:
            bare = self._in_use.get(key)
            if bare is None:
                content = await self._media.get(key)
                if content is None:
                    return None
                bare = BarePicture(await asyncio.to_thread(bare_copy, content))
                self._in_use[key] = bare
            return bare
