"""The windows of a limit, one small entry in the store for each key, changed by compare-and-swap and in no other way.

The api keeps one for each owner, the generator one for each publishing service and owner: exact over all replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.domain import quotas
from common.domain.errors import LimitReached
from common.domain.quotas import Window
from common.domain.views import iso
from common.runtime.clock import Clock
from common.store.port import Entry, Store

_KEPT: Final = quotas.HOUR + timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class QuotaStore:
    """`kind` names the limit; `limit` orders fit into an hour, 0 is no limit."""

    kind: str
    limit: int
    store: Store
    clock: Clock

    async def reserve(self, key: str, image_id: str) -> Window:
        """Count an order; returns the hour with it in. The same order again counts once.

        Raises:
            LimitReached: the hour is full, even without what failed by our fault.
        """
        if not self.limit:
            return Window()

        def entered(window: Window) -> Window:
            return quotas.reserve(window, image_id, now=self.clock.now(), limit=self.limit)

        try:
            return await self._change(key, entered)
        except LimitReached:
            # only a full window is worth the look at its images
            forgiven = await self._failed_by_us(key)
            return await self._change(key, lambda window: entered(window.without(forgiven)))

    async def release(self, key: str, image_id: str) -> None:
        """Take an order back that was refused after all."""
        if self.limit:
            await self._change(key, lambda window: window.without({image_id}))

    async def usage(self, key: str) -> Window:
        """What counts of the last hour."""
        window = _window(await self.store.get_entry(self.kind, key)).since(self.clock.now() - quotas.HOUR)
        return window.without(await self._ours(window))

    async def _change(self, key: str, transition: Callable[[Window], Window]) -> Window:
        while True:
            before = await self.store.get_entry(self.kind, key)
            window = _window(before)
            changed = transition(window)
            if changed == window or await self.store.put_entry(self._entry(key, changed, before)):
                return changed

    async def _failed_by_us(self, key: str) -> set[str]:
        return await self._ours(_window(await self.store.get_entry(self.kind, key)))

    async def _ours(self, window: Window) -> set[str]:
        found = await self.store.get_several(window.ids) if window.ids else {}
        return {image.id for image in found.values() if quotas.does_not_count(image)}

    def _entry(self, key: str, window: Window, before: Entry | None) -> Entry:
        return Entry(
            kind=self.kind,
            key=key,
            revision=before.revision + 1 if before else 1,
            data={"entries": [[iso(at), image_id] for at, image_id in window.entries]},
            expires_at=self.clock.now() + _KEPT,
        )


def _window(entry: Entry | None) -> Window:
    if entry is None:
        return Window()
    return Window(tuple((datetime.fromisoformat(at), image_id) for at, image_id in entry.data["entries"]))
