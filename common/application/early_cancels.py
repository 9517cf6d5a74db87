"""Cancels of images that are not on record yet: a cancel may be delivered before its request.

    cancel:   no record ─▶ remember it ─▶ look for the record once more
    request:  insert the record ─▶ look for a remembered cancel

Each side writes before it reads, so at least one of them sees the other. A remembered cancel expires.

An entry lists the owners that cancels of the image have named, and apart from these those of cancels of its batch.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Final

from common.domain.images import Image
from common.messages import CancelImage
from common.store.port import Entry, Store, back_off

KIND: Final = "cancelled"
_OF_IMAGE: Final = "owners"
_OF_BATCH: Final = "batch_owners"
_ANY_OWNER: Final = ""
_MAX_OWNERS: Final = 8  # names in one entry: one sender needs one, and a flood must not grow it


class EarlyCancel(Enum):
    """What was cancelled before it was recorded."""

    NOTHING = "nothing"
    IMAGE = "image"
    BATCH = "batch"


async def remember_cancel(store: Store, image_id: str, command: CancelImage, *, expires_at: datetime) -> None:
    """Remember who cancelled this id; an entry for each source, so that no other sender can replace it."""
    key, owner = _key(image_id, command.source), command.owner or _ANY_OWNER
    field = _OF_BATCH if command.data.batch else _OF_IMAGE
    losses = 0
    while True:
        before = await store.get_entry(KIND, key)
        owners = _owners(before, field)
        if owner not in owners and len(owners) >= _MAX_OWNERS:
            return
        # also for a known owner: the entry may be about to expire
        known = {_OF_IMAGE: _owners(before, _OF_IMAGE), field: list(dict.fromkeys([*owners, owner]))}
        data = {**(before.data if before else {}), **known}
        if await store.put_entry(Entry(KIND, key, before.revision + 1 if before else 1, data, expires_at)):
            return
        losses += 1
        await back_off(losses)


async def find_early_cancel(store: Store, image: Image) -> EarlyCancel:
    """What a sender that may cancel this image has cancelled before it was recorded."""
    entry = await store.get_entry(KIND, _key(image.id, image.source))
    for field, cancelled in ((_OF_BATCH, EarlyCancel.BATCH), (_OF_IMAGE, EarlyCancel.IMAGE)):
        owners = _owners(entry, field)
        if any(image.may_be_cancelled_by(source=image.source, owner=owner or None) for owner in owners):
            return cancelled
    return EarlyCancel.NOTHING


def _owners(entry: Entry | None, field: str) -> list[str]:
    """The owners in the entry; a damaged one names nobody."""
    found = entry.data.get(field) if entry else None
    return [owner for owner in found if isinstance(owner, str)] if isinstance(found, list) else []


def _key(image_id: str, source: str) -> str:
    return f"{image_id}:{source}"
