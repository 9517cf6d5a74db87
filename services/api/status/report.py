"""The status of the deployment at one moment, from what the janitors gather and the generators announce."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from common.application.fleet.announcements import Heartbeat
from common.application.health import unready_reasons
from common.application.operation.figures import Figures, QueueFigures, read_figures
from common.domain.errors import Unavailable
from services.api.context import Context
from services.api.status.schema import (
    BackEndStatus,
    GeneratorStatus,
    PartStatus,
    PoolStatus,
    QueueStatus,
    StatusReport,
    StorageStatus,
)


@dataclass(frozen=True, slots=True)
class StatusReader:
    """Reads the status; what cannot be read is empty, as operators look here when something is down."""

    context: Context

    async def report(self) -> StatusReport:
        context = self.context
        now, figures = context.clock.now(), await self._figures()
        pictures = context.outcomes.pictures()
        media = figures.media if figures is not None else None
        return StatusReport(
            time=now,
            version=version("darkroom"),
            parts=await self._parts(),
            age=_age(figures.gathered_at, now) if figures is not None else None,
            generators=[_generator(generator) for generator in await self._generators()],
            pools=[
                PoolStatus(name=name, **f.model_dump())
                for name, f in (figures.pools.items() if figures is not None else ())
            ],
            queues=[
                _queue(name, queue, now) for name, queue in (figures.queues.items() if figures is not None else ())
            ],
            lined_up=figures.lined_up if figures is not None else None,
            pending_events=figures.pending_events if figures is not None else None,
            dead_letters=figures.dead_letters if figures is not None else None,
            storage=StorageStatus(files=media.files, bytes=media.bytes, age=_age(media.counted_at, now))
            if media is not None
            else None,
            next_purge=figures.next_purge if figures is not None else None,
            pictures=pictures,
            pictures_per_minute=sum(pictures[-5:]) / 5,
            failures=context.outcomes.failures(),
        )

    async def _figures(self) -> Figures | None:
        try:
            figures, _ = await read_figures(self.context.store)
        except Unavailable:
            return None
        return figures

    async def _generators(self) -> list[Heartbeat]:
        try:
            found = (await self.context.fleet.current()).generators
        except Unavailable:
            return []
        return sorted(found, key=lambda generator: generator.pool)

    async def _parts(self) -> list[PartStatus]:
        context = self.context

        async def events() -> str | None:
            return None if context.live.is_ready else "the event log is still being read"

        checks = {"events": events, "store": context.store.check, "media": context.media.check}
        reasons = await unready_reasons(context.bus, checks)
        return [
            PartStatus(
                name=name,
                ready=name not in reasons,
                reason=reasons.get(name, ""),
                warning=context.bus.warning if name == "bus" else "",
            )
            for name in ("bus", "store", "media", "events")
        ]


def _generator(found: Heartbeat) -> GeneratorStatus:
    return GeneratorStatus(
        pool=found.pool,
        version=found.version,
        concurrency=found.concurrency,
        backends=[
            BackEndStatus(name=each.name, dialect=each.dialect, circuit=each.circuit, concurrency=each.concurrency)
            for each in found.backends
        ],
    )


def _queue(name: str, found: QueueFigures, now: datetime) -> QueueStatus:
    oldest = found.oldest_sent_at
    return QueueStatus(name=name, messages=found.messages, oldest_age=_age(oldest, now) if oldest else None)


def _age(moment: datetime, now: datetime) -> float:
    return round(max(0.0, (now - moment).total_seconds()), 3)
