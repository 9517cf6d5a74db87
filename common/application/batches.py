"""The images of one request for several, on their records.

    first record, with `batch_due` ─▶ the other records ─▶ `batch_due` cleared ─▶ all are sent, or wait for their turn

Every step may happen twice, and in several processes at once: the request itself, a repeat of it, a redelivered command
and the janitor complete a batch from its first record (`common/domain/batches.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from common.application.outbox import Outbox
from common.domain.batches import mark_complete, missing_members
from common.domain.errors import InvalidTransition, NotFound
from common.domain.images import Image, Status
from common.store.port import Store, Transition, change

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batches:
    """Completes and changes batches; `record_other` inserts an image as waiting, and again without effect."""

    store: Store
    outbox: Outbox
    record_other: Callable[[Image], Awaitable[None]]

    async def begin(self, first: Image) -> Image:
        """Complete the batch of an image, then send or announce each that is new; an image alone is its own batch.

        Returns the record of the first, which names nothing any more that is left to insert.

        Raises:
            Unavailable: the store does not answer; the janitor does the rest.
        """
        if first.batch is None:
            await self.outbox.begin(first)
            return first
        completed = await self.complete(first)
        for image in await self.store.batch_members(first.batch.id):
            await self.outbox.begin_one(image)
        await self.outbox.try_dispatch_waiting(first.owner, model=first.model)
        return completed

    async def complete(self, first: Image) -> Image:
        """Insert the images of the batch that are not on record yet; returns the first record, unchanged if all are.

        Raises:
            Unavailable: the store does not answer.
        """
        others = missing_members(first)
        if not others:
            return first
        known = await self.store.known_ids([image.id for image in others])
        for image in others:
            if image.id not in known:
                await self.record_other(image)
        return await change(self.store, first.id, mark_complete)

    async def members(self, image: Image) -> list[Image]:
        """All images of the batch by their index, also deleted ones; the image alone if it has no batch."""
        if image.batch is None:
            return [image]
        first = image if image.batch.index == 0 else await self.store.get(image.batch.id)
        if first is not None:
            await self.complete(first)
        return await self.store.batch_members(image.batch.id)

    async def change(self, image: Image, transition: Transition) -> list[Image]:
        """Apply a transition to all images of the batch; returns those that it has changed.

        Waiting images come first, the last of them before the others: a slot that becomes free meanwhile must not be
        given to an image that is about to be cancelled.

        Raises:
            Unavailable: the store does not answer; a part may be changed.
        """
        changed: list[Image] = []
        for member in sorted(await self.members(image), key=_begun):
            try:
                after = await change(self.store, member.id, transition)
            except (InvalidTransition, NotFound) as refusal:
                log.debug("unchanged: %s", refusal)
                continue
            if after.revision > member.revision:
                changed.append(after)
        return changed


def _begun(image: Image) -> tuple[bool, bool, int]:
    return image.status is Status.RUNNING, not image.is_waiting, -image.batch.index if image.batch else 0
