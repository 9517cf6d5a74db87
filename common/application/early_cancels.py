"""Cancels of images that are not on record yet: a cancel may be delivered before its request.

    cancel:   no record ─▶ remember it ─▶ look for the record once more
    request:  insert the record ─▶ look for a remembered cancel

Each side writes before it reads, so at least one of them sees the other. A remembered cancel expires.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from common.domain.images import Image
from common.messages import CancelImage
from common.store.port import Entry, Store, back_off

KIND: Final = "cancelled"
_ANY_OWNER: Final = ""
_MAX_OWNERS: Final = 8  # names in one entry: one sender needs one, and a flood must not grow it


async def remember_cancel(store: Store, image_id: str, command: CancelImage, *, expires_at: datetime) -> None:
    """Remember who cancelled this id; an entry for each source, so that no other sender can replace it."""
    key, owner = _key(image_id, command.source), command.owner or _ANY_OWNER
    losses = 0
    while True:
        before = await store.get_entry(KIND, key)
        owners = _owners(before)
        if owner not in owners and len(owners) >= _MAX_OWNERS:
            return
        revision = before.revision + 1 if before else 1
        # also for a known owner: the entry may be about to expire
        changed = Entry(KIND, key, revision, {"owners": list(dict.fromkeys([*owners, owner]))}, expires_at)
        if await store.put_entry(changed):
            return
        losses += 1
        await back_off(losses)


async def was_cancelled_early(store: Store, image: Image) -> bool:
    """Whether a sender that may cancel this image has done so before it was recorded."""
    entry = await store.get_entry(KIND, _key(image.id, image.source))
    owners = _owners(entry)
    return any(image.may_be_cancelled_by(source=image.source, owner=owner or None) for owner in owners)


def _owners(entry: Entry | None) -> list[str]:
    """The owners in the entry; a damaged one names nobody."""
    found = entry.data.get("owners") if entry else None
    return [owner for owner in found if isinstance(owner, str)] if isinstance(found, list) else []


def _key(image_id: str, source: str) -> str:
    return f"{image_id}:{source}"
