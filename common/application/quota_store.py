"""The hourly quotas in the store: one entry for each key, changed only by compare-and-swap.

The api keeps a quota of the requests over HTTP for each owner, the generator one of the requests of other services.
They are exact over all replicas.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.domain import quotas
from common.domain.batches import batch_ids
from common.domain.errors import LimitReached, Unreadable
from common.domain.quotas import Entries, Window
from common.domain.views import iso
from common.runtime.clock import Clock
from common.store.port import Entry, Store, back_off

log = logging.getLogger(__name__)

_KEPT: Final = quotas.HOUR + timedelta(minutes=1)
_INSERT_LIMIT: Final = timedelta(minutes=1)  # an image is inserted within milliseconds after it was reserved, or never


@dataclass(frozen=True, slots=True)
class QuotaStore:
    """The quotas of one `kind`; `limit` images fit into an hour, 0 means no limit."""

    kind: str
    limit: int
    store: Store
    clock: Clock

    async def reserve(self, key: str, *image_ids: str) -> Window:
        """Count the images, all or none, and return the window with them. Counting one again changes nothing.

        Raises:
            LimitReached: not all fit, even without the images that are forgiven.
        """
        if not self.limit:
            return Window()

        def reserved(window: Window, failed: Collection[str] = (), never_inserted: Collection[str] = ()) -> Window:
            now = self.clock.now()
            window = window.since(now - quotas.HOUR).without(never_inserted).forgive(failed, limit=self.limit)
            return quotas.reserve(window, *image_ids, now=now, limit=self.limit)

        try:
            return await self._change(key, reserved)
        except LimitReached:
            # the images are read only when the window is full
            found = await self._forgivable(_window(await self._entry_of(key)))
            return await self._change(key, lambda window: reserved(window, *found))

    async def release(self, key: str, *image_ids: str) -> None:
        """Remove images that were rejected after they were reserved."""
        if self.limit:
            await self._change(key, lambda window: window.without(image_ids))

    async def usage(self, key: str) -> Window:
        """The window of the last hour, without the images that are forgiven."""
        window = _window(await self._entry_of(key)).since(self.clock.now() - quotas.HOUR)
        failed, never_inserted = await self._forgivable(window)
        return window.without(never_inserted).forgive(failed, limit=self.limit)

    async def _change(self, key: str, transition: Callable[[Window], Window]) -> Window:
        losses = 0
        while True:
            before = await self._entry_of(key)
            window = _window(before)
            changed = transition(window)
            if changed == window or await self.store.put_entry(self._entry(key, changed, before)):
                return changed
            losses += 1
            await back_off(losses)

    async def _forgivable(self, window: Window) -> tuple[set[str], set[str]]:
        """Images that failed by a fault of the service, and those that were never inserted, as the store was away.

        The latter were not painted, so any number of them is forgiven.
        """
        found = await self.store.get_several(window.ids) if window.ids else {}
        inserted_before = self.clock.now() - _INSERT_LIMIT
        # a batch that is incomplete will be completed
        due = {image_id for image in found.values() if image.batch_due is not None for image_id in batch_ids(image)}
        never_inserted = {
            image_id for at, image_id in window.entries if image_id not in {*found, *due} and at < inserted_before
        }
        return {image.id for image in found.values() if quotas.does_not_count(image)}, never_inserted

    async def _entry_of(self, key: str) -> Entry | None:
        try:
            return await self.store.get_entry(self.kind, key)
        except Unreadable as error:  # a damaged entry would lock its owner out
            log.warning("the quota of an owner is removed: %s", error)
            await self.store.remove_entry(self.kind, key)
            return None

    def _entry(self, key: str, window: Window, before: Entry | None) -> Entry:
        return Entry(
            kind=self.kind,
            key=key,
            revision=before.revision + 1 if before else 1,
            data={"entries": _pairs(window.entries), "forgiven": _pairs(window.forgiven)},
            expires_at=self.clock.now() + _KEPT,
        )


def _window(entry: Entry | None) -> Window:
    if entry is None:
        return Window()
    try:
        # older releases have no "forgiven"
        return Window(_parsed(entry.data["entries"]), _parsed(entry.data.get("forgiven", [])))
    except (KeyError, TypeError, ValueError) as error:
        log.warning("the quota of an owner begins again, its entry is damaged: %r", error)
        return Window()


def _pairs(entries: Entries) -> list[list[str]]:
    return [[iso(at), image_id] for at, image_id in entries]


def _parsed(pairs: list[list[str]]) -> Entries:
    entries = tuple((datetime.fromisoformat(at), str(image_id)) for at, image_id in pairs)
    if not all(at.tzinfo for at, _ in entries):
        raise ValueError("a time without a zone")
    return entries
