"""The announcements of this generator to the readers of the store.

    back ends ──capabilities──▶ catalogue ──its hash──▶ heartbeat, at each interval ──▶ the store
                                                         └─ a new catalogue: reconcile, since images may wait for it

It runs beside the painting and never holds it up: whatever fails here is tried again at the next interval.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from common.application.fleet.announcements import (
    CATALOGUE_AGE_S,
    CATALOGUES,
    HEARTBEAT_AGE_S,
    HEARTBEATS,
    Catalogue,
    Heartbeat,
    catalogue_data,
    catalogue_key,
    catalogue_of,
    heartbeat_data,
)
from common.bus.port import Bus
from common.domain.errors import ServiceError, Unreadable
from common.domain.images import new_image_id
from common.messages import Tick
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Entry, Store
from services.generator.backends.backend import Backend
from services.generator.backends.backends import FIRST_ANSWER_S, Backends

log = logging.getLogger(__name__)

SOURCE: Final = "generator"
RENEW_S: Final = 3600.0  # a catalogue is kept for a day after its last renewal
WITHDRAW_S: Final = 2.0  # longest wait at the stop
MAX_CATALOGUES: Final = 10  # of one process in the store: a server that changes with each answer must not fill it


class StoredEntry:
    """One entry that this process writes again and again, whatever happens to it in between."""

    def __init__(self, store: Store, kind: str, key: str) -> None:
        self._store = store
        self._kind = kind
        self._key = key
        self._revision = 0

    async def exists(self) -> bool:
        try:
            return await self._store.get_entry(self._kind, self._key) is not None
        except Unreadable:
            return False

    async def put(self, data: dict[str, Any], clock: Clock, *, age_s: float) -> None:
        """Write it; one that is gone is inserted with revision 1. Raises Unavailable."""
        expires_at = clock.now() + timedelta(seconds=age_s)
        if not await self._try_put(data, expires_at=expires_at):
            # it is gone, another process has written it, or the answer to a write was lost
            self._revision = await self._stored_revision()
            await self._try_put(data, expires_at=expires_at)

    async def remove(self) -> None:
        await self._store.remove_entry(self._kind, self._key)

    async def _try_put(self, data: dict[str, Any], **more: Any) -> bool:
        is_written = await self._store.put_entry(Entry(self._kind, self._key, self._revision + 1, data, **more))
        self._revision += is_written
        return is_written

    async def _stored_revision(self) -> int:
        try:
            found = await self._store.get_entry(self._kind, self._key)
        except Unreadable:
            await self.remove()
            found = None
        return found.revision if found is not None else 0


class Announcer:
    """Announces one generator process; `run` is its task."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        *,
        backends: Backends,
        settings: Settings,
        worker: str,
    ) -> None:
        self.backends = backends
        self._store = store
        self._bus = bus
        self._clock = clock
        self.worker = worker
        self._settings = settings
        # the suffix keeps apart two containers with one host name, whose processes have the same number
        self._heartbeat = StoredEntry(store, HEARTBEATS, f"{worker}:{secrets.token_hex(4)}")
        self._stored: StoredEntry | None = None  # the catalogue
        self._key: str | None = None
        self._renew_after_s = float("-inf")
        self._written: deque[str] = deque()
        self._lock = asyncio.Lock()  # one writer of the catalogue
        self._has_news = asyncio.Event()
        self._is_tick_due = True

    async def run(self, stopping: asyncio.Event) -> None:
        """Announce until `stopping` is set, then remove the heartbeat."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask_regularly(each)) for each in self.backends.all]
            tasks.append(group.create_task(self._beat_regularly()))
            await stopping.wait()
            for task in tasks:
                task.cancel()
        with suppress(ServiceError, TimeoutError):
            async with asyncio.timeout(WITHDRAW_S):
                await self._heartbeat.remove()

    def announce_soon(self) -> None:
        """Write a heartbeat now: a circuit has opened or closed."""
        self._has_news.set()

    async def _ask_regularly(self, backend: Backend) -> None:
        """Each back end has a task of its own: one that does not answer delays no other."""
        interval_s = self._settings.announce_interval
        # the only back end is tried with an image: its record then says what is wrong
        opens_circuit = len(self.backends.all) > 1
        while True:
            await _attempted(partial(backend.refresh, opens_circuit=opens_circuit))
            await _attempted(self.update_catalogue)
            await asyncio.sleep(interval_s if backend.is_known else min(interval_s, FIRST_ANSWER_S))

    async def _beat_regularly(self) -> None:
        while True:
            self._has_news.clear()
            await _attempted(self.beat)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.announce_interval):
                    await self._has_news.wait()

    async def update_catalogue(self) -> None:
        """Keep in the store what the back ends can paint together. Raises Unavailable."""
        async with self._lock:
            offered = [backend.offered for backend in self.backends.all if backend.offered is not None]
            if offered:
                await self._store_catalogue(catalogue_of(offered, pool=self._settings.generator_pool))

    async def _store_catalogue(self, catalogue: Catalogue) -> None:
        data = catalogue_data(catalogue)
        key = catalogue_key(data)
        if self._stored is None or key != self._key:
            self._stored, self._renew_after_s = StoredEntry(self._store, CATALOGUES, key), float("-inf")
        if self._clock.monotonic() >= self._renew_after_s or not await self._stored.exists():
            await self._stored.put(data, self._clock, age_s=CATALOGUE_AGE_S)
            self._renew_after_s = self._clock.monotonic() + RENEW_S
        if key != self._key:
            self._key = key
            log.info("offers %d models in the pool %s", len(catalogue.models), catalogue.pool)
            self._is_tick_due = True
            self._has_news.set()
            await self._forget_oldest(key)

    async def _forget_oldest(self, key: str) -> None:
        if key in self._written:
            self._written.remove(key)
        self._written.append(key)
        while len(self._written) > MAX_CATALOGUES:
            await self._store.remove_entry(CATALOGUES, self._written.popleft())

    async def beat(self) -> None:
        """Write the heartbeat; reconcile at the start, and when images may wait for a new model. Raises Unavailable."""
        heartbeat = Heartbeat(
            pool=self._settings.generator_pool,
            concurrency=self.backends.slots,
            version=version("darkroom"),
            catalogue=self._key,
            backends=tuple(backend.state() for backend in self.backends.all),
        )
        await self._heartbeat.put(heartbeat_data(heartbeat), self._clock, age_s=HEARTBEAT_AGE_S)
        if self._is_tick_due:
            now = self._clock.now()
            await self._bus.tick(Tick(id=new_image_id(now), source=SOURCE, type="timer.reconcile", time=now))
            self._is_tick_due = False


async def _attempted(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except ServiceError as error:
        log.debug("not announced: %s", error)
    except Exception:
        log.exception("not announced")
