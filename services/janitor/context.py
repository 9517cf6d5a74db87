"""The context of the janitor's jobs: ports, settings, the time by two clocks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from common.application.batches import Batches
from common.application.intake import Intake
from common.application.outbox import Outbox
from common.application.quota_store import QuotaStore
from common.bus.port import Bus
from common.domain import images
from common.domain.errors import Invalid, InvalidTransition, NotFound, ServiceError, Unavailable
from common.domain.images import HTTP_SOURCE, Image
from common.domain.turns import Line
from common.media.port import Media
from common.runtime import metrics
from common.runtime.clock import Clock
from common.runtime.logs import OncePerKey, image_fields
from common.runtime.settings import Settings
from common.store.port import Store
from services.janitor.leases import LeaseWatch

log = logging.getLogger(__name__)

SOURCE = "janitor"
MAX_FAILURES_IN_A_ROW = 20  # of single records there are few, and others succeed between them
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
    warned: OncePerKey = field(default_factory=OncePerKey)
    ticked_at: datetime | None = None
    received_s: float = 0.0  # when the tick was received, by the monotonic clock

    @property
    def batches(self) -> Batches:
        return Batches(self.store, self.outbox, self._record_other)

    async def _record_other(self, image: Image) -> None:
        is_http = image.source == HTTP_SOURCE
        places = self.settings.waiting_requests if is_http else self.settings.publisher_waiting_requests
        line = Line(self.settings.concurrent_requests, places, "w" if is_http else "p")
        uncounted = QuotaStore(kind="", limit=0, store=self.store, clock=self.clock)  # its request was counted
        await Intake(uncounted, self.store, line).record_other(image)

    def at(self, ticked_at: datetime) -> JanitorContext:
        """The same context for handling a tick, or another message, of this time."""
        return replace(self, ticked_at=ticked_at, received_s=self.clock.monotonic())

    def earliest(self) -> datetime:
        """The earlier time of both clocks: for actions that do harm too early."""
        return min([self.clock.stable_now(), *self._time_by_tick()])

    def latest(self) -> datetime:
        """The later time of both clocks: for actions that are harmless too early and do harm too late."""
        return max([self.clock.now(), *self._time_by_tick()])

    def warn(self, image: Image, error: Exception) -> None:
        """Log once for each record and kind of error that the record is skipped."""
        metrics.skipped.labels(SOURCE).inc()
        if self.warned.is_new(f"{image.id} {type(error).__name__}"):
            unforeseen = None if isinstance(error, ServiceError) else error
            log.warning(
                "image %s is skipped: %s",
                image.id,
                str(error) or type(error).__name__,
                exc_info=unforeseen,
                extra=image_fields(image.id, image.traceparent),
            )

    def _time_by_tick(self) -> list[datetime]:
        """The time by the other clock: that of the tick, plus the time since it was received."""
        if self.ticked_at is None:
            return []
        return [self.ticked_at + timedelta(seconds=self.clock.monotonic() - self.received_s)]


async def for_each_image(
    found: Iterable[Image],
    act: Callable[[Image], Awaitable[object]],
    *,
    context: JanitorContext,
    failed: set[str] | None = None,
) -> int:
    """Act on each image, several concurrently; returns for how many the action was done.

    An image whose state has changed meanwhile is skipped. An image for which the action fails is skipped too, with
    one warning that names it, and its id is added to `failed`.

    Raises:
        Unavailable: so many actions in a row raised it that a dependency must be away. The next run finds the images.
    """
    run = _Run(iter(found), act, context, failed if failed is not None else set())
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):  # a few tasks that share the images: a batch has a thousand
                group.create_task(run.act_in_turn())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return run.done


@dataclass(slots=True)
class _Run:
    """The state of one `for_each_image`."""

    remaining: Iterator[Image]
    act: Callable[[Image], Awaitable[object]]
    context: JanitorContext
    failed: set[str]
    done: int = 0
    failures_in_a_row: int = 0

    async def act_in_turn(self) -> None:
        for image in self.remaining:
            try:
                await self.act(image)
            except (InvalidTransition, NotFound) as error:
                log.debug("skipped: %s", error)
            except Exception as error:
                self.failures_in_a_row += 1
                if isinstance(error, Unavailable) and self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                    raise
                self.context.warn(image, error)
                self.failed.add(image.id)
            else:
                self.done += 1
                self.failures_in_a_row = 0


async def remove_files(image: Image, context: JanitorContext) -> None:
    """Remove every file of the image. A key that the media cannot hold, made from a strange id, has no file."""
    keys = images.media_keys(image)
    try:
        await context.media.remove(keys)
    except Invalid:
        for key in keys:
            with suppress(Invalid):
                await context.media.remove([key])
