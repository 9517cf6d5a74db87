"""Gathering of the figures of the deployment, by the janitor that has the tick; the others read what it wrote.

tick of reconcile ─▶ `request` ─▶ count queues, records, generators ─▶ the entry ─▶ count the media, if that is due
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from common.application.operation.exposition import shown_figures
from common.application.operation.figures import (
    MAX_POOLS,
    Figures,
    MediaFigures,
    PoolFigures,
    QueueFigures,
    read_figures,
    write_figures,
)
from common.bus.port import WorkQueue
from common.domain.errors import ServiceError, Unavailable, Unreadable
from common.domain.pools import DEFAULT_POOL
from common.runtime.setting_types import MAX_AGE_S
from services.janitor.context import JanitorContext
from services.janitor.timers import last_success

log = logging.getLogger(__name__)

OWNERS: Final = 1000  # who wait: a query for each, if a pool has no generator
READ_S: Final = 5.0  # between two reads of the entry
MIN_MEDIA_AGE_S: Final = 60.0
MEDIA_SHARE: Final = 0.01  # of the time is spent on counting files: a million of them take some ten seconds
QUEUES: Final = tuple(queue for queue in WorkQueue if queue is not WorkQueue.GENERATE)


class FigureGatherer:
    """`run` is the task that gathers when it is requested to, and otherwise reads what another janitor has gathered."""

    def __init__(self, context: JanitorContext) -> None:
        self._context = context
        self._requested = asyncio.Event()
        self._started_at = context.clock.now()

    def request(self) -> None:
        """Gather soon: this janitor has the tick."""
        self._requested.set()

    async def run(self) -> None:
        """Never returns; the figures disappear from `/metrics` when it is cancelled."""
        try:
            while True:
                is_requested = await self._wait()
                try:
                    await self._gather() if is_requested else await self._read()
                except ServiceError as error:
                    log.warning("the figures are not up to date: %s", error)
                except Exception:  # the top of a unit of work: no figure is worth a janitor
                    log.exception("the figures are not up to date")
        finally:
            shown_figures.clear()

    async def _wait(self) -> bool:
        try:
            async with asyncio.timeout(READ_S):
                await self._requested.wait()
        except TimeoutError:
            return False
        self._requested.clear()
        return True

    async def _read(self) -> None:
        figures, _ = await read_figures(self._context.store)
        if figures is not None:
            shown_figures.show(figures, self._context.clock)

    async def _gather(self) -> None:
        before, _ = await read_figures(self._context.store)
        media = before.media if before is not None else None
        figures = await self.count(media)
        await self._write(figures)
        if self._is_due(media):
            await self._write(figures.model_copy(update={"media": await self._count_media()}))

    async def _write(self, figures: Figures) -> None:
        _, revision = await read_figures(self._context.store, remove_damaged=True)
        if await write_figures(self._context.store, figures, revision=revision + 1):
            shown_figures.show(figures, self._context.clock)

    async def count(self, media: MediaFigures | None = None) -> Figures:
        """What can be counted quickly, with the figures of the media as they were counted before."""
        store, clock = self._context.store, self._context.clock
        live, lacking = await self._live_generators(), await self._without_generator()
        pools = sorted({*await store.queued_pools(), *live, *lacking})[:MAX_POOLS]
        counts = {pool: await store.pool_counts(pool) for pool in pools}
        queues = {queue.value: await self._queue(queue) for queue in QUEUES}
        for pool, found in counts.items():
            queues[WorkQueue.GENERATE.of_pool(pool)] = await self._queue(
                WorkQueue.GENERATE, pool=pool, oldest_sent_at=found.oldest_sent_at
            )
        return Figures(
            gathered_at=clock.now(),
            queues={name: queue for name, queue in queues.items() if queue is not None},
            pools={
                pool: PoolFigures(
                    queued=found.queued,
                    running=found.running,
                    unsent=found.unsent,
                    generators=live.get(pool, 0),
                    owners_without_generator=lacking.get(pool, 0),
                )
                for pool, found in counts.items()
            },
            lined_up=await store.count_lined_up(),
            pending_events=await store.count_pending_events(),
            dead_letters=await self._dead_letters(),
            next_purge=await self._next_purge(),
            media=media,
        )

    async def _live_generators(self) -> dict[str, int]:
        fleet = self._context.outbox.fleet
        live: dict[str, int] = {}
        for generator in (await fleet.current()).generators if fleet is not None else ():
            live[generator.pool] = live.get(generator.pool, 0) + 1
        return live

    async def _without_generator(self) -> Counter[str]:
        """How many owners wait for each pool that has no live generator, among the first thousand who wait."""
        fleet, lacking = self._context.outbox.fleet, Counter[str]()
        view = await fleet.current() if fleet is not None else None
        if view is None or view.is_complete:
            return lacking
        for owner in await self._context.store.owners_waiting(after="", limit=OWNERS):
            models = await self._context.store.waiting_models(owner)
            lacking.update({view.pool_of(model) for model in models if not view.is_live(model)})
        return lacking

    async def _queue(
        self, queue: WorkQueue, *, pool: str = DEFAULT_POOL, oldest_sent_at: datetime | None = None
    ) -> QueueFigures | None:
        """None if the bus does not answer: the figures of the records are worth having then more than ever."""
        try:
            return QueueFigures(
                messages=await self._context.bus.waiting(queue, pool=pool), oldest_sent_at=oldest_sent_at
            )
        except Unavailable as error:
            log.debug("%s is not counted: %s", queue.of_pool(pool), error)
            return None

    async def _dead_letters(self) -> int | None:
        try:
            return await self._context.bus.count_dead_letters()
        except Unavailable as error:
            log.debug("dead letters are not counted: %s", error)
            return None

    async def _next_purge(self) -> datetime | None:
        """One interval after the last that did not fail; None if nothing is ever purged."""
        settings = self._context.settings
        if settings.retention is None:
            return None
        last = self._started_at
        try:
            entry = await self._context.store.get_entry("timer", WorkQueue.PURGE)
            if entry is not None and (done := last_success(entry)):
                last = max(last, datetime.fromisoformat(done))
        except (Unreadable, TypeError, ValueError):
            log.debug("the entry of the purge cannot be read")
        return last + timedelta(seconds=min(settings.purge_interval, MAX_AGE_S))

    def _is_due(self, media: MediaFigures | None) -> bool:
        if media is None:
            return True
        age_s = abs((self._context.clock.now() - media.counted_at).total_seconds())
        return age_s >= max(MIN_MEDIA_AGE_S, media.took_s / MEDIA_SHARE)

    async def _count_media(self) -> MediaFigures:
        clock, files, size = self._context.clock, 0, 0
        began_s = clock.monotonic()
        async for page in self._context.media.walk():
            files += len(page)
            size += sum(file.size for file in page)
        return MediaFigures(
            files=files, bytes=size, counted_at=clock.now(), took_s=round(clock.monotonic() - began_s, 3)
        )
