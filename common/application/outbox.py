"""The record is the outbox: what it owes the bus is sent from here, and noted on it once the broker has confirmed.

Whoever makes a move sends at once what the move owes; whatever that misses, the janitor finds on the record and sends
by the same functions. So everything here may happen twice, and nothing is repaired at the call.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import cast

from common.application.write_behind import WriteBehind
from common.bus.port import Bus
from common.domain import transitions
from common.domain.errors import NotFound, Unavailable
from common.domain.images import Image, PendingEvent
from common.messages import (
    AnyImageEvent,
    Change,
    Deleted,
    GenerateImage,
    ImageChanged,
    ImageDeleted,
    ImageProgressed,
    ImageView,
    Progress,
    view,
)
from common.runtime.clock import Clock
from common.store.port import Store, Transition, change

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outbox:
    """What a service needs to speak of images on the bus; `source` is its name."""

    bus: Bus
    store: Store
    clock: Clock
    source: str
    media_url: str
    retention: timedelta
    write_behind: WriteBehind | None = None  # without, each note is written at once

    async def order(self, image: Image, *, delay_s: float = 0) -> None:
        """Tell that the image is queued, then send its command, then note that it was sent.

        Raises:
            Unavailable: the record still says unsent; the janitor sends it later.
        """
        # queued before the command, or a quick worker's `started` would stand before it in the log
        await self.bus.publish(self.event(image, "image.queued"))
        command = GenerateImage(
            id=image.id, source=self.source, subject=image.id, time=self.clock.now(), traceparent=image.traceparent
        )
        await self.bus.send(command, delay_s=delay_s)
        await self._note(image, partial(transitions.sent, attempts=image.attempts, now=self.clock.now()))

    async def try_order(self, image: Image, *, delay_s: float = 0) -> None:
        """`order`, where the caller has done its part once the record stands."""
        try:
            await self.order(image, delay_s=delay_s)
        except (Unavailable, NotFound) as error:
            log.warning("not sent, the janitor will: %s", error)

    async def announce(self, image: Image) -> None:
        """Publish the event that the image owes, if any, and note that it was.

        Raises:
            Unavailable: the record still owes it; the janitor publishes it later.
        """
        pending = image.pending_event
        if pending is None:
            return
        await self.bus.publish(self._pending_event(image, pending))
        await self._note(image, partial(transitions.event_published, pending=pending))

    async def try_announce(self, image: Image) -> None:
        """`announce`, where the caller has done its part once the record stands."""
        try:
            await self.announce(image)
        except (Unavailable, NotFound) as error:
            log.warning("not announced, the janitor will: %s", error)

    async def _note(self, image: Image, transition: Transition) -> None:
        if self.write_behind is not None:
            await self.write_behind.take(image.id, transition)
        else:
            await change(self.store, image.id, transition, known=image)

    def event(self, image: Image, event_type: Change, *, pending: PendingEvent | None = None) -> ImageChanged:
        """A fact about the image as it is; its id makes a repeat known, and one that is due keeps its time as well."""
        revision = pending.revision if pending else image.revision
        return ImageChanged(
            id=f"{image.id}.{revision}",
            source=self.source,
            type=event_type,
            subject=image.id,
            time=pending.since if pending else self.clock.now(),
            owner=image.owner,
            revision=revision,
            attempt=image.attempts,
            traceparent=image.traceparent,
            data=self.view(image),
        )

    def progress(
        self, image: Image, *, step: int, steps: int, seconds_left: float | None, preview: str | None = None
    ) -> ImageProgressed:
        """How far the attempt is; carries the revision of its claim."""
        return ImageProgressed(
            id=f"{image.id}.{image.revision}.{step}",
            source=self.source,
            subject=image.id,
            time=self.clock.now(),
            owner=image.owner,
            revision=image.revision,
            attempt=image.attempts,
            data=Progress(id=image.id, step=step, steps=steps, seconds_left=seconds_left, preview=preview),
        )

    def view(self, image: Image) -> ImageView:
        return view(image, media_url=self.media_url, retention=self.retention)

    def _pending_event(self, image: Image, pending: PendingEvent) -> AnyImageEvent:
        if pending.type == "image.deleted":
            return self.deleted(image)
        return self.event(image, cast("Change", pending.type), pending=pending)

    def deleted(self, image: Image) -> ImageDeleted:
        """The image is gone; only its id is still said."""
        pending = image.pending_event
        revision = pending.revision if pending else image.revision
        return ImageDeleted(
            id=f"{image.id}.{revision}",
            source=self.source,
            subject=image.id,
            time=pending.since if pending else self.clock.now(),
            owner=image.owner,
            revision=revision,
            attempt=image.attempts,
            data=Deleted(id=image.id),
        )
