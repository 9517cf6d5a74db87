"""Intake of a request for an image: counted against an hourly quota, then inserted as a record.

    request ─▶ quota of the hour ─▶ record (in a free slot, if slots are limited)

The api takes in the requests of owners, with a quota and slots for each owner. The generator takes in the requests
that other services publish as commands, with a quota for each owner and without slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.application.quota_store import QuotaStore
from common.domain.errors import Duplicate, Invalid, LimitReached
from common.domain.images import Image
from common.domain.owners import parse_owner
from common.domain.quotas import Window
from common.domain.requests import GenerationRequest, new_image
from common.messages import GenerateImage
from common.store.port import Store

_BUSY_RETRY_S: Final = 5.0  # an image takes seconds; which one ends first is not known


@dataclass(frozen=True, slots=True)
class Intake:
    """Inserts the records of new images within a quota.

    `slots` is how many unfinished images an owner may have at once, 0 for no limit. A slot is a unique key on the
    record itself, so the limit is exact over any number of replicas and no slot can leak.
    """

    quota: QuotaStore
    store: Store
    slots: int = 0

    async def record(self, image: Image, *, quota_key: str) -> tuple[Image, Window]:
        """Count the image, then insert it durably; returns the record and the window of the quota.

        Raises:
            LimitReached: `hourly_limit` or `concurrent_limit`; nothing is recorded or counted.
            Duplicate: its id or its idempotency key is on record already.
        """
        window = await self.quota.reserve(quota_key, image.id)
        try:
            return await self._insert(image), window
        except (LimitReached, Duplicate) as refused:
            # a duplicate id is the same request again, and its one entry in the window is the recorded image's
            if not (isinstance(refused, Duplicate) and refused.key == "id"):
                await self.quota.release(quota_key, image.id)
            raise

    async def _insert(self, image: Image) -> Image:
        if not self.slots:
            await self.store.insert(image)
            return image
        for number in range(self.slots):
            in_slot = image.model_copy(update={"slot": f"{image.owner}:{number}"})
            try:
                await self.store.insert(in_slot)
            except Duplicate as taken:
                if taken.key != "slot":
                    raise
            else:
                return in_slot
        raise LimitReached(
            f"{self.slots} images are in progress already; wait for one to finish, or cancel one",
            code="concurrent_limit",
            retry_after_s=_BUSY_RETRY_S,
        )


def image_from_command(command: GenerateImage, request: GenerationRequest, *, now: datetime, max_age_s: float) -> Image:
    """The record of the image that another service requests; the publisher is trusted to name the owner.

    Raises:
        Invalid: no owner (`owner_missing`), or older than a tombstone lives (`order_expired`): a deleted image could
            be created again.
    """
    if not command.owner:
        raise Invalid("the command of another service must name the owner", code="owner_missing")
    owner = parse_owner(command.owner)
    if command.time is not None and now - command.time > timedelta(seconds=max_age_s):
        raise Invalid("the command is too old to tell whether its image was deleted", code="order_expired")
    image = new_image(
        request,
        image_id=command.id,
        owner=owner,
        source=command.source,
        now=now,
        traceparent=command.traceparent,
    )
    return image.model_copy(update={"sent_at": now})  # the command itself is the one that was sent
