"""The checkpoint of store and media: a number in both, raised at each reconcile.

    same number, or the next ──▶ they are of the same time: raise both
    other numbers            ──▶ one was restored from a backup: raise nothing, and let no sweep remove anything

So a difference stays until an operator has looked at it (`darkroom media --adopt`). The media are written first, with
the number that the store gets next: writes of the store that fail leave a difference of one, however many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.application.deployment import KIND
from common.domain.errors import Unreadable
from common.media.port import Media
from common.store.port import Entry, Store

KEY: Final = "checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The numbers of both sides; `revision` is that of the entry, 0 without one."""

    store: int | None
    media: int | None
    revision: int

    @property
    def difference(self) -> str | None:
        """Why they cannot be of the same time; None if they can."""
        if abs((self.store or 0) - (self.media or 0)) <= 1:  # without a number it is 0: nothing was raised yet
            return None
        return (
            f"store and media are not of the same time (checkpoint {self.store or 'none'} and {self.media or 'none'}): "
            "one of them was restored from a backup"
        )


async def read_checkpoints(store: Store, media: Media) -> Checkpoints:
    """Raises Unavailable."""
    try:
        entry = await store.get_entry(KIND, KEY)
    except Unreadable:  # an operator's `--adopt` writes it again
        await store.remove_entry(KIND, KEY)
        entry = None
    number = entry.data.get("number") if entry is not None else None
    return Checkpoints(
        store=number if isinstance(number, int) else None,
        media=await media.checkpoint(),
        revision=entry.revision if entry is not None else 0,
    )


async def raise_checkpoint(store: Store, media: Media, *, adopt: bool = False) -> str | None:
    """Raise the number of both sides; returns why not if they are not of the same time, unless they are adopted.

    Raises:
        Unavailable: store or media do not answer.
    """
    found = await read_checkpoints(store, media)
    if found.difference and not adopt:
        return found.difference
    number = (max(found.store or 0, found.media or 0) if adopt else found.store or 0) + 1
    await media.set_checkpoint(number)
    if not await store.put_entry(Entry(KIND, KEY, found.revision + 1, {"number": number})):
        # another janitor was faster, maybe by far: its number counts
        after = await read_checkpoints(store, media)
        await media.set_checkpoint(after.store or number)
    return None
