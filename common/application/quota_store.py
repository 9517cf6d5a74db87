"""The hourly quotas in the store: one entry for each key, changed only by compare-and-swap.

The api keeps a quota for each owner, the generator one for each publishing service and owner. They are exact over all
replicas.
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
    """The quotas of one `kind`; `limit` images fit into an hour, 0 means no limit."""

    kind: str
    limit: int
    store: Store
    clock: Clock

    async def reserve(self, key: str, image_id: str) -> Window:
        """Count the image and return the window with it. Reserving the same image again changes nothing.

        Raises:
            LimitReached: the window is full, even without images that failed by a fault of the service.
        """
        if not self.limit:
            return Window()

        def reserved(window: Window) -> Window:
            return quotas.reserve(window, image_id, now=self.clock.now(), limit=self.limit)

        try:
            return await self._change(key, reserved)
        except LimitReached:
            # the images are read only when the window is full
            uncounted = await self._uncounted(_window(await self.store.get_entry(self.kind, key)))
            return await self._change(key, lambda window: reserved(window.without(uncounted)))

    async def release(self, key: str, image_id: str) -> None:
        """Remove an image that was rejected after it was reserved."""
        if self.limit:
            await self._change(key, lambda window: window.without({image_id}))

    async def usage(self, key: str) -> Window:
        """The window of the last hour, without images that failed by a fault of the service."""
        window = _window(await self.store.get_entry(self.kind, key)).since(self.clock.now() - quotas.HOUR)
        return window.without(await self._uncounted(window))

    async def _change(self, key: str, transition: Callable[[Window], Window]) -> Window:
        while True:
            before = await self.store.get_entry(self.kind, key)
            window = _window(before)
            changed = transition(window)
            if changed == window or await self.store.put_entry(self._entry(key, changed, before)):
                return changed

    async def _uncounted(self, window: Window) -> set[str]:
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
