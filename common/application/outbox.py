"""The outbox: the record itself says which command and which event still have to be published.

Every transition is followed by its publish. If a fault prevents that, the janitor finds it on the record and publishes
with the same functions. So everything here may happen twice, and no caller repairs a failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from common.application import turns
from common.application.events import EventFactory
from common.application.fleet.reader import Fleet
from common.application.fleet.view import FleetView
from common.application.webhooks.deliveries import Deliveries
from common.application.write_behind import WriteBehind
from common.bus.port import Bus
from common.domain import transitions
from common.domain.errors import NotAccepted, NotFound, Unavailable
from common.domain.images import Image, Status
from common.messages import FINAL_EVENTS, AnyImageEvent, GenerateImage, ImageChanged
from common.runtime.clock import Clock, latest_now
from common.runtime.logs import log_context
from common.store.port import Store, Transition, change

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outbox:
    """Sends commands and publishes events about images, and records what the broker has confirmed.

    Without `write_behind`, each confirmation is written at once. `slots` is how many images of an owner may be
    dispatched at once, 0 for no limit. `fleet` tells the pool of each model, and whether a generator lives that has it;
    without one there is one pool, and every model is live.
    """

    bus: Bus
    store: Store
    clock: Clock
    events: EventFactory
    write_behind: WriteBehind | None = None
    slots: int = 0
    fleet: Fleet | None = None

    async def begin(self, image: Image) -> None:
        """Send the command of a new image; if it waits, publish that, and give the owner's turns.

        It never fails: what is not sent or published now, or not dispatched, the janitor finds on the records.
        """
        await self.begin_one(image)
        if image.is_waiting:
            await self.try_dispatch_waiting(image.owner, model=image.model)

    async def begin_one(self, image: Image) -> None:
        """Send the command of an image, or publish what is pending of it; neither, if that was done before."""
        if image.pending_event is not None:
            await self.try_publish_pending(image)
        is_dispatched = image.status is Status.QUEUED and not image.is_waiting
        if is_dispatched and not image.attempts and image.sent_at is None:
            await self.try_dispatch(image)

    async def try_dispatch_waiting(self, owner: str, *, model: str | None = None) -> None:
        """`dispatch_waiting` for images that wait since now; if it fails, the janitor looks at the line.

        A slot may have become free after it was found taken, and before they were on record; or a generator of their
        model may have come.
        """
        try:
            await self.dispatch_waiting(owner, model=model)
        except Unavailable as error:
            log.warning("the line was not looked at, the janitor will: %s", error)

    async def dispatch_waiting(self, owner: str, *, model: str | None = None) -> int:
        """Dispatch the oldest waiting images of the owner into the free slots; returns how many.

        Those whose model has no live generator keep waiting. Whether `model` has one is read from the store.

        Raises:
            Unavailable: the store does not answer; the janitor looks again.
        """
        count = 0
        view = await self._view(model)
        while True:
            now = latest_now(self.clock)
            dispatched = await turns.dispatch_next(self.store, owner, slots=self.slots, now=now, view=view)
            for image in dispatched:
                await self._try_first_dispatch(image)
            count += len(dispatched)
            if self.slots or len(dispatched) < turns.PAGE:
                return count

    async def _view(self, model: str | None = None) -> FleetView | None:
        if self.fleet is None:
            return None
        return await (self.fleet.current() if model is None else self.fleet.current_for(model))

    async def _pool_of(self, image: Image) -> str:
        """The pool that has the model now; while the store does not answer, the one that the record names."""
        try:
            view = await self._view()
        except Unavailable:
            view = None
        return image.work_pool if view is None else view.pool_of(image.model)

    async def _try_first_dispatch(self, image: Image) -> None:
        try:
            await self.try_dispatch(image)
        except Exception:
            # its slot is taken on record: what is wrong with it must not keep the others of its owner waiting
            with log_context(image.id, image.traceparent):
                log.exception("the command was not sent, the janitor will try again")

    async def dispatch(self, image: Image, *, delay_s: float = 0) -> None:
        """Publish `image.queued`, send the command to the pool of the model, then record that it was sent there.

        The event is written first, and both are confirmed before anything is recorded
        (docs/decisions/0025-both-confirms-at-once.md). The command does not depend on the event: an event that the bus
        refuses stops no request. What is lost then is news of a state that the next event of the image contains too
        (docs/decisions/0007-exchanges-and-rights.md).

        Raises:
            Unavailable: the command stays unsent on the record; the janitor sends it later.
        """
        command = GenerateImage(
            id=image.id,
            source=image.source,  # with the owner: a dead letter of the command may fail this image, and no other one
            owner=image.owner,
            subject=image.id,
            time=self.clock.now(),
            traceparent=image.traceparent,
        )
        pool = await self._pool_of(image)
        # the tasks of `gather` start in this order, so the event is in the channel before the command
        results = await asyncio.gather(
            self._try_publish_queued(image), self.bus.send(command, delay_s=delay_s, pool=pool), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        sent = partial(
            transitions.mark_sent,
            attempts=image.attempts,
            dispatched_at=image.dispatched_at,
            now=self.clock.now(),
            pool=pool,
        )
        await self._record(image, sent)

    async def _try_publish_queued(self, image: Image) -> None:
        try:
            await self.publish_queued(image)
        except NotAccepted as error:
            log.warning("image.queued was not published, the command is sent without it: %s", error)

    async def try_dispatch(self, image: Image, *, delay_s: float = 0) -> None:
        """`dispatch` without an error: if it fails, the janitor sends the command later."""
        with log_context(image.id, image.traceparent):
            try:
                await self.dispatch(image, delay_s=delay_s)
            except (Unavailable, NotFound) as error:
                log.warning("the command was not sent, the janitor will send it: %s", error)

    async def publish_pending(self, image: Image) -> None:
        """Publish the pending event of the image, if it has one, and record that it was published.

        An image that has ended has freed its slot, so its owner's turns are given before that is recorded: if this
        process dies in between, the janitor does both again.

        Raises:
            Unavailable: the event stays pending on the record; the janitor publishes it later.
        """
        pending = image.pending_event
        if pending is None:
            return
        await self._publish(image, self.events.pending(image, pending))
        if self.slots and pending.type in FINAL_EVENTS:  # without slots nothing waits for one
            await self.dispatch_waiting(image.owner)
        await self._record(image, partial(transitions.mark_event_published, pending=pending))

    async def try_publish_pending(self, image: Image) -> None:
        """`publish_pending` without an error: if it fails, the janitor publishes the event later."""
        with log_context(image.id, image.traceparent):
            try:
                await self.publish_pending(image)
            except (Unavailable, NotFound) as error:
                log.warning("the event was not published, the janitor will publish it: %s", error)

    async def publish_queued(self, image: Image) -> None:
        """Raises Unavailable."""
        await self.bus.publish(self.events.changed(image, "image.queued"))

    async def publish_started(self, image: Image) -> None:
        """Raises Unavailable."""
        await self._publish(image, self.events.changed(image, "image.started"))

    async def publish_progress(
        self, image: Image, *, step: int, steps: int, seconds_left: float | None, preview: str | None = None
    ) -> None:
        """Publish the progress of the attempt; `preview` is a data URL. Raises Unavailable."""
        await self.bus.publish(
            self.events.progressed(image, step=step, steps=steps, seconds_left=seconds_left, preview=preview)
        )

    async def publish_deleted(self, image: Image) -> None:
        """Publish `image.deleted`; the caller records that it was published. Raises Unavailable."""
        await self._publish(image, self.events.deleted(image))

    async def publish_deleted_several(self, images: Sequence[Image]) -> set[str]:
        """`publish_deleted` for images without a webhook, with one wait; the ids of those that are published."""
        outcomes = await self.bus.publish_several([self.events.deleted(image) for image in images])
        errors = [error for error in outcomes if error is not None]
        if errors:
            log.warning("%d events stay pending: %s", len(errors), errors[0])
        return {image.id for image, error in zip(images, outcomes, strict=True) if error is None}

    async def _publish(self, image: Image, event: AnyImageEvent) -> None:
        # before the event, which wakes the service that delivers; and an event is noted as published after both
        deliveries = Deliveries(self.store, self.clock)
        if isinstance(event, ImageChanged):
            await deliveries.record(image, event)
        elif event.type == "image.deleted":
            await deliveries.forget(image)
        await self.bus.publish(event)

    async def _record(self, image: Image, transition: Transition) -> None:
        if self.write_behind is not None:
            await self.write_behind.add(image.id, transition)
        else:
            await change(self.store, image.id, transition, snapshot=image)
