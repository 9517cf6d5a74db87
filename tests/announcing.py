"""Announcements for tests, written as a generator writes them."""

from datetime import timedelta

from common.application.capabilities import Capabilities, Model
from common.application.fleet.announcements import (
    CATALOGUE_AGE_S,
    CATALOGUES,
    HEARTBEAT_AGE_S,
    HEARTBEATS,
    Heartbeat,
    catalogue_data,
    catalogue_key,
    catalogue_of,
    heartbeat_data,
)
from common.runtime.clock import Clock
from common.store.port import Entry, Store


class FakeGenerator:
    """A generator that beats when a test says so; its clock may be another one than the reader's."""

    def __init__(self, store: Store, clock: Clock, name: str = "a", *, pool: str = "default", concurrency: int = 2):
        self.store = store
        self.clock = clock
        self.name = name
        self.pool = pool
        self.concurrency = concurrency
        self.key: str | None = None

    async def offer(self, *models: Model | str, samplers: tuple[str, ...] = ("Euler",), **more) -> "FakeGenerator":
        """Write the catalogue, then a heartbeat that names it."""
        listed = tuple(Model(id=model) if isinstance(model, str) else model for model in models)
        return await self.announce(Capabilities(models=listed, samplers=samplers, **more))

    async def announce(self, found: Capabilities) -> "FakeGenerator":
        data = catalogue_data(catalogue_of([found], pool=self.pool))
        self.key = catalogue_key(data)
        await self._put(CATALOGUES, self.key, data, CATALOGUE_AGE_S)
        await self.beat()
        return self

    async def beat(self) -> None:
        heartbeat = Heartbeat(pool=self.pool, concurrency=self.concurrency, version="1", catalogue=self.key)
        await self._put(HEARTBEATS, self.name, heartbeat_data(heartbeat), HEARTBEAT_AGE_S)

    async def stop(self) -> None:
        await self.store.remove_entry(HEARTBEATS, self.name)

    async def _put(self, kind: str, key: str, data: dict, age_s: float) -> None:
        before = await self.store.get_entry(kind, key)
        revision = before.revision + 1 if before else 1
        expires_at = self.clock.now() + timedelta(seconds=age_s)
        assert await self.store.put_entry(Entry(kind, key, revision, data, expires_at))
