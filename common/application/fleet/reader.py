"""The reader of the announcements: one for each process, shared by all that ask.

A generator is alive while its heartbeat changes. Whether it does is measured by the reader's own monotonic clock: no
time that another host has written is compared with anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from common.application.fleet.announcements import (
    CATALOGUE_AGE_S,
    CATALOGUES,
    HEARTBEATS,
    INTERVAL_S,
    MISSED_BEATS,
    Catalogue,
    Heartbeat,
    read_catalogue,
    read_heartbeat,
)
from common.application.fleet.view import FleetView, KnownCatalogue
from common.domain.errors import Unavailable, Unreadable
from common.runtime import metrics
from common.runtime.clock import Clock
from common.runtime.logs import OncePerKey
from common.store.port import Entry, Store

log = logging.getLogger(__name__)

T = TypeVar("T")
MAX_AGE_S: Final = 2.0  # of a view
FIRST_AGE_S: Final = 0.5  # at the start, while no generator is known: it is offered within a second of its start
START_S: Final = 60.0
CATALOGUES_INTERVAL_S: Final = 30.0  # catalogues are read again, beside those that a new heartbeat names
_warned = OncePerKey()


class Sightings:
    """The entries of one kind, each with the time of this reader's clock at which it has changed last."""

    def __init__(self, believed_s: float) -> None:
        self._believed_s = believed_s
        self._seen: dict[str, tuple[Entry, float]] = {}

    def update(self, entries: list[Entry], now_s: float) -> list[Entry]:
        """Take the entries of the store; returns those that have changed recently. An entry seen first counts as so."""
        seen = {}
        for entry in entries:
            known = self._seen.get(entry.key)
            seen[entry.key] = known if known is not None and known[0] == entry else (entry, now_s)
        self._seen = seen
        return self.recent(now_s)

    def recent(self, now_s: float) -> list[Entry]:
        return [entry for entry, changed_s in self._seen.values() if now_s - changed_s < self._believed_s]

    def skip(self, seconds: float) -> None:
        """Leave out a time in which the store could not be read: nobody could write a heartbeat either."""
        self._seen = {key: (entry, changed_s + seconds) for key, (entry, changed_s) in self._seen.items()}


class Fleet:
    """Reads the announcements at most every two seconds; `current` is what it has found."""

    def __init__(self, store: Store, clock: Clock, *, interval_s: float = INTERVAL_S) -> None:
        self._store = store
        self._clock = clock
        self._max_age_s = min(MAX_AGE_S, interval_s / MISSED_BEATS)
        self._heartbeats = Sightings(MISSED_BEATS * interval_s)
        self._catalogues = Sightings(CATALOGUE_AGE_S)
        self._parsed: dict[str, Catalogue] = {}
        self._lock = asyncio.Lock()
        self._start_ends_s = clock.monotonic() + START_S
        self._read_after_s = self._catalogues_after_s = float("-inf")
        self._read_s: float | None = None  # of the last read that has succeeded
        self._error: Unavailable | None = None
        self._found: tuple[list[Heartbeat], list[KnownCatalogue]] | None = None
        self._view: FleetView | None = None

    async def current(self, *, fresh: bool = False) -> FleetView:
        """The view of now, at most two seconds old; `fresh` reads the store. While it is away, the last view counts.

        Two views of the same announcements are the same object.

        Raises:
            Unavailable: the store has not answered since the start.
        """
        async with self._lock:  # one reader at a time; the other callers use its result
            if fresh or self._clock.monotonic() >= self._read_after_s:
                await self._refresh()
            if self._view is None:
                assert self._error is not None
                raise self._error.with_traceback(None)
            return self._view

    async def current_for(self, model: str) -> FleetView:
        """The view of now; if the model has no live generator by the last one, the store is read: one may have come.

        A generator that comes after this read sends a tick; reconcile then finds an image that was recorded before.
        """
        view = await self.current()
        return view if view.is_live(model) else await self.current(fresh=True)

    @property
    def max_age_s(self) -> float:
        """How old a view may become before `current` reads the store again."""
        is_starting = self._clock.monotonic() < self._start_ends_s and not (self._view and self._view.pools())
        return min(self._max_age_s, FIRST_AGE_S) if is_starting else self._max_age_s

    async def _refresh(self) -> None:
        try:
            heartbeats = await self._store.list_entries(HEARTBEATS)
            catalogues = await self._read_catalogues(heartbeats)
        except Unavailable as error:
            self._error = error
            # from the end: those that waited for this read must not wait for another one
            self._read_after_s = self._clock.monotonic() + self._max_age_s
            return
        now_s = self._clock.monotonic()
        if self._error is not None and self._read_s is not None:
            self._heartbeats.skip(now_s - self._read_s)
            self._catalogues.skip(now_s - self._read_s)
        self._error, self._read_s = None, now_s
        self._take(self._heartbeats.update(heartbeats, now_s), catalogues, now_s)
        self._read_after_s = now_s + self.max_age_s

    async def _read_catalogues(self, heartbeats: list[Entry]) -> list[Entry] | None:
        """All catalogues; None if the known ones are new enough."""
        now_s = self._clock.monotonic()
        named = {heartbeat.catalogue for heartbeat in _readable(heartbeats, read_heartbeat)} - {None}
        if now_s < self._catalogues_after_s and named <= self._parsed.keys():
            return None
        found = await self._store.list_entries(CATALOGUES)
        self._catalogues_after_s = now_s + CATALOGUES_INTERVAL_S
        return found

    def _take(self, heartbeats: list[Entry], catalogues: list[Entry] | None, now_s: float) -> None:
        live = _readable(heartbeats, read_heartbeat)
        named = {heartbeat.catalogue for heartbeat in live}
        if catalogues is not None:
            self._catalogues.update(catalogues, now_s)
        entries = {entry.key: entry for entry in self._catalogues.recent(now_s)}
        new = [entry for key, entry in entries.items() if key not in self._parsed]
        self._parsed |= dict(_readable(new, lambda entry: (entry.key, read_catalogue(entry))))
        # one that a live generator names stays, also if its entry was removed: its generator writes it again
        self._parsed = {key: known for key, known in self._parsed.items() if key in entries or key in named}
        expiry = {key: entry.expires_at for key, entry in entries.items()}
        known = [KnownCatalogue(self._parsed[key], key in named, expiry.get(key)) for key in sorted(self._parsed)]
        if self._view is None or (live, known) != self._found:
            self._found = (live, known)
            self._view = FleetView(live, known)


def _readable(entries: list[Entry], read: Callable[[Entry], T]) -> list[T]:
    """What can be read of these; each of the others is counted, and logged once."""
    found = []
    for entry in entries:
        try:
            found.append(read(entry))
        except Unreadable as error:
            if _warned.is_new(error.detail):
                metrics.skipped.labels("store").inc()
                log.warning("left out: %s", error.detail)
    return found
