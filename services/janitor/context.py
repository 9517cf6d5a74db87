"""The context of the janitor's jobs: ports, settings, the time by two clocks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from common.application.outbox import Outbox
from common.bus.port import Bus
from common.domain.errors import InvalidTransition, NotFound
from common.domain.images import Image
from common.media.port import Media
from common.runtime.clock import Clock
from common.runtime.settings import Settings
from common.store.port import Store
from services.janitor.leases import LeaseWatch

log = logging.getLogger(__name__)

SOURCE = "janitor"
CONCURRENCY = 50  # writes and confirms in flight: RabbitMQ took 5,700 a second this way, and 1,070 one at a time


@dataclass(frozen=True, slots=True)
class JanitorContext:
    """`ticked_at` is the time of the tick that is handled, by the clock of the bus or of its sender."""

    bus: Bus
    store: Store
    media: Media
    outbox: Outbox
    settings: Settings
    clock: Clock
    leases: LeaseWatch = field(default_factory=LeaseWatch)
    ticked_at: datetime | None = None
    received_s: float = 0.0  # when the tick was received, by the monotonic clock

    def at(self, ticked_at: datetime) -> JanitorContext:
        """The same context for handling a tick, or another message, of this time."""
        return replace(self, ticked_at=ticked_at, received_s=self.clock.monotonic())

    def earliest(self) -> datetime:
        """The earlier time of both clocks: for actions that do harm too early."""
        return min([self.clock.stable_now(), *self._time_by_tick()])

    def latest(self) -> datetime:
        """The later time of both clocks: for actions that are harmless too early and do harm too late."""
        return max([self.clock.now(), *self._time_by_tick()])

    def _time_by_tick(self) -> list[datetime]:
        """The time by the other clock: that of the tick, plus the time since it was received."""
        if self.ticked_at is None:
            return []
        return [self.ticked_at + timedelta(seconds=self.clock.monotonic() - self.received_s)]


async def for_each_image(found: Iterable[Image], act: Callable[[Image], Awaitable[object]]) -> int:
    """Act on each image, several concurrently; returns for how many the action was done.

    An image whose state has changed meanwhile is skipped.

    Raises:
        Unavailable: as soon as one action raises it; the others in progress are cancelled. The next run finds them.
    """
    remaining = iter(found)
    done = 0

    async def act_in_turn() -> None:
        nonlocal done
        for image in remaining:
            try:
                await act(image)
                done += 1
            except (InvalidTransition, NotFound) as error:
                log.debug("skipped: %s", error)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):  # a few tasks that share the images: a batch has a thousand
                group.create_task(act_in_turn())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return done
