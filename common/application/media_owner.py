"""The store that the media belong to: their marker names it, so that no other deployment removes its files.

start ──▶ marker of this store ──▶ go on
          marker of another, or of an unfinished copy ──▶ refused
          no marker            ──▶ made, if the folder is new or its files belong to records of this store
"""

from __future__ import annotations

from typing import Final

from common.application.deployment import KIND, deployment_id
from common.application.operation.checkpoint import raise_checkpoint
from common.domain.errors import Misconfigured
from common.media.port import Media, StoredFile
from common.store.port import Entry, Store

ADOPT: Final = "`darkroom media --adopt` makes them this store's"
_UNFINISHED: Final = "unfinished copy of "  # begins the marker of media that are still being copied to
_KEY: Final = "media"  # of the entry that remembers that a marker was made


async def claim_media(store: Store, media: Media, *, adopt: bool = False) -> None:
    """Mark the media as this store's, or check that they are marked so; `adopt` marks them in any case.

    Media that are adopted are of the time of the store from then on: a sweep may remove what has no counterpart.

    Raises:
        Misconfigured: they belong to another store, or seem to.
        Unavailable: store or media do not answer.
    """
    own = await deployment_id(store)
    marked = await media.marker()
    if marked != own and not adopt:
        if marked is not None and marked.startswith(_UNFINISHED):
            raise _refused("a copy to them is not finished; `darkroom media copy` continues it")
        if marked is not None:
            raise _refused(f"the media belong to another store (theirs: {marked[:36]!r}, this one: {own!r})")
        await _require_own_files(store, media, own)
    await media.mark(own)
    if await media.marker() != own:
        raise _refused("another store marks the same media at this moment")
    if await store.get_entry(KIND, _KEY) is None:
        await store.put_entry(Entry(KIND, _KEY, 1, {"marked": True}))
    if adopt:
        await raise_checkpoint(store, media, adopt=True)


def unfinished_copy_of(store_id: str) -> str:
    """The marker of media while those of this store are copied to them: no service starts there."""
    return f"{_UNFINISHED}{store_id}"


async def _require_own_files(store: Store, media: Media, own: str) -> None:
    # another service that starts now may have a file of its check there
    ids = {file.image_id for file in await _some_files(media) if not file.is_leftover} - {None}
    known = await store.known_ids([image_id for image_id in ids if image_id])
    if len(known) * 2 < len(ids):
        raise _refused(f"{len(ids) - len(known)} of {len(ids)} images with files there are not in this store")
    if ids or await store.get_entry(KIND, _KEY) is None:
        return
    if await media.marker() == own:  # another service that starts now has marked them, and then said so in the store
        return
    if await store.completed(after_id="", limit=1):
        raise _refused("the folder is empty, but the store has pictures; is it mounted?")


async def _some_files(media: Media) -> list[StoredFile]:
    async for page in media.walk():
        return page
    return []


def _refused(reason: str) -> Misconfigured:
    return Misconfigured(f"MEDIA_ROOT: {reason}; {ADOPT}", code="media_foreign")
