"""The dispatch of waiting images on their records, in the order of their turns.

    an image ends, is given back to the line, or is added to it ─▶ dispatch_next ─▶ the commands are sent

A slot is taken by a unique key and a turn by compare-and-swap, so any number of processes may do this at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from common.domain import transitions, turns
from common.domain.errors import Duplicate
from common.domain.images import Image
from common.store.port import Store, back_off

PAGE: Final = 100  # images at once, if slots are not limited
_APART: Final = timedelta(milliseconds=1)  # the precision of the stores


async def dispatch_next(store: Store, owner: str, *, slots: int, now: datetime) -> list[Image]:
    """Dispatch the oldest waiting images of the owner, as many as slots are free; their commands are still to be sent.

    Without a limit of slots, which is 0, at most `PAGE` images. A later image is never dispatched while an earlier one
    waits: if another process has changed a record or taken a slot, everything is read again.

    Raises:
        Unavailable: the store does not answer, or other processes were faster for many seconds.
    """
    done: list[Image] = []
    losses = 0
    while True:
        waiting = await store.next_waiting(owner, now=now, limit=slots or PAGE)
        free = await _free_slots(store, owner, slots) if waiting else []
        for image, slot in zip(waiting, free or (), strict=False):
            dispatched = transitions.dispatch(image, slot=slot, now=now)
            if not await _is_written(store, dispatched):
                break
            done.append(dispatched)
            now += _APART  # queue positions are sorted by this time: in the order in which the commands are sent
        else:
            return done
        losses += 1
        await back_off(losses)


async def _free_slots(store: Store, owner: str, slots: int) -> list[str] | list[None]:
    if not slots:
        return [None] * PAGE
    keys = turns.slot_keys(owner, slots)
    return turns.free_keys(keys, await store.held_slots(keys))


async def _is_written(store: Store, image: Image) -> bool:
    try:
        return await store.replace(image)
    except Duplicate:  # the slot was taken since
        return False
