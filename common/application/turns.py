"""The dispatch of waiting images on their records, in the order of their turns.

    an image ends, is given back to the line, or is added to it ─▶ dispatch_next ─▶ the commands are sent

A slot is taken by a unique key and a turn by compare-and-swap, so any number of processes may do this at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from common.application.fleet.view import FleetView
from common.domain import transitions, turns
from common.domain.errors import Duplicate
from common.domain.images import Image
from common.domain.pools import DEFAULT_POOL
from common.runtime.clock import Clock
from common.store.port import Store, back_off

PAGE: Final = 100  # images at once, if slots are not limited
MAX_LATER: Final = 10_000  # owners in memory
_APART: Final = timedelta(milliseconds=1)  # the precision of the stores
_LATE_S: Final = 0.01  # the clock of the dispatch may be a little behind that of the record


async def next_in_turn(
    store: Store, owner: str, *, now: datetime, limit: int, view: FleetView | None = None
) -> list[Image]:
    """The oldest waiting images of the owner that a live generator can paint, in order; without a view, all count."""
    if view is None or not view.is_known:
        return await store.next_waiting(owner, now=now, limit=limit)
    models = [model for model in await store.waiting_models(owner) if view.is_live(model)]
    return await store.next_waiting(owner, now=now, limit=limit, models=models) if models else []


async def dispatch_next(
    store: Store, owner: str, *, slots: int, now: datetime, view: FleetView | None = None
) -> list[Image]:
    """Dispatch the oldest waiting images of the owner, as many as slots are free; their commands are still to be sent.

    An image whose model has no live generator keeps waiting, and does not hold back the others.

    Without a limit of slots, which is 0, at most `PAGE` images. A later image is never dispatched while an earlier one
    waits: if another process has changed a record or taken a slot, everything is read again.

    Raises:
        Unavailable: the store does not answer, or other processes were faster for many seconds.
    """
    done: list[Image] = []
    losses = 0
    while True:
        waiting = await next_in_turn(store, owner, now=now, limit=slots or PAGE, view=view)
        free = await _free_slots(store, owner, slots) if waiting else []
        for image, slot in zip(waiting, free, strict=False):
            pool = view.pool_of(image.model) if view is not None else DEFAULT_POOL
            dispatched = transitions.dispatch(image, slot=slot, now=now, pool=pool)
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


class LaterTurns:
    """Gives the turns of owners at a later time; `run` is its task. If the process ends before, the janitor does."""

    def __init__(self, give: Callable[[str], Awaitable[object]], clock: Clock) -> None:
        self._give = give
        self._clock = clock
        self._due_s: dict[str, float] = {}  # by owner
        self._changed = asyncio.Event()

    def add(self, owner: str, delay_s: float) -> None:
        """Give the turns of this owner in `delay_s` seconds, or earlier if they are due earlier already."""
        due_s = self._clock.monotonic() + delay_s + _LATE_S
        if due_s < self._due_s.get(owner, float("inf")) and len(self._due_s) < MAX_LATER:
            self._due_s[owner] = due_s
            self._changed.set()

    async def run(self) -> None:
        """Give the turns that are due; never returns."""
        while True:
            now_s = self._clock.monotonic()
            for owner in [owner for owner, due_s in self._due_s.items() if due_s <= now_s]:
                del self._due_s[owner]
                await self._give(owner)
            self._changed.clear()
            next_s = min(self._due_s.values(), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if next_s is None else next_s - self._clock.monotonic()):
                    await self._changed.wait()
