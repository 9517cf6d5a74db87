"""Whether an owner may order one more image: at most so many in an hour, and so many unfinished at once.

"At once" is a unique key on the record itself, so it is exact over any number of replicas and nothing can leak;
"an hour" is one small entry for each owner, changed by compare-and-swap.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from common import quotas
from common.clock import Clock
from common.errors import Duplicate, LimitReached
from common.images import Image, Status
from common.messages import iso
from common.quotas import Window
from common.settings import Settings
from common.store.port import Entry, Store
from services.api.schema import Limit, Limits

log = logging.getLogger(__name__)

KIND: Final = "quota"
_BUSY_RETRY_S: Final = 5.0  # an image takes seconds; there is no telling which


async def record(image: Image, *, store: Store, settings: Settings, clock: Clock) -> Image:
    """Admit the image and put it on record, durably; returns it as recorded.

    Raises:
        LimitReached: `hourly_limit` or `concurrent_limit`; nothing is recorded.
        Duplicate: its idempotency key came in at the same time by another request.
    """
    await _enter_hour(image, store=store, settings=settings, clock=clock)
    try:
        return await _insert(image, store=store, limit=settings.concurrent_requests)
    except (LimitReached, Duplicate):
        await _leave_hour(image, store=store)
        raise


async def limits(owner: str, *, store: Store, settings: Settings, clock: Clock) -> Limits:
    """What the owner has left."""
    now = clock.now()
    entry = await store.entry(KIND, owner)
    window = await _forgiven(_window(entry).since(now - quotas.HOUR), store)
    hourly = settings.requests_per_hour
    active = await store.total(owner, {Status.QUEUED, Status.RUNNING})
    at_once = settings.concurrent_requests
    return Limits(
        hourly=Limit(
            limit=hourly,
            remaining=max(0, hourly - len(window.entries)),
            resets_in=quotas.frees_in_s(window, now=now, limit=hourly) if hourly else 0,
        ),
        concurrent=Limit(limit=at_once, remaining=max(0, at_once - active), resets_in=0),
    )


async def _insert(image: Image, *, store: Store, limit: int) -> Image:
    if limit == 0:
        await store.insert(image)
        return image
    for number in range(limit):
        held = image.model_copy(update={"slot": f"{image.owner}:{number}"})
        try:
            await store.insert(held)
        except Duplicate as taken:
            if taken.key != "slot":
                raise
        else:
            return held
    raise LimitReached(
        f"{limit} images are under way already; wait for one to finish, or cancel it",
        code="concurrent_limit",
        retry_after_s=_BUSY_RETRY_S,
    )


async def _enter_hour(image: Image, *, store: Store, settings: Settings, clock: Clock) -> None:
    limit = settings.requests_per_hour
    if limit == 0:
        return
    while True:
        entry = await store.entry(KIND, image.owner)
        window, now = _window(entry), clock.now()
        try:
            entered = quotas.enter(window, image.id, now=now, limit=limit)
        except LimitReached:
            # only a full window is worth the look at its images
            entered = quotas.enter(await _forgiven(window, store), image.id, now=now, limit=limit)
        if await store.put(_entry(image.owner, entered, entry, now)):
            return


async def _leave_hour(image: Image, *, store: Store) -> None:
    while entry := await store.entry(KIND, image.owner):
        window = _window(entry).without({image.id})
        if await store.put(_entry(image.owner, window, entry, image.created_at)):
            return


async def _forgiven(window: Window, store: Store) -> Window:
    """Without the images that failed by our fault."""
    found = await store.several(window.ids)
    return window.without({image.id for image in found.values() if quotas.does_not_count(image)})


def _window(entry: Entry | None) -> Window:
    if entry is None:
        return Window()
    return Window(tuple((datetime.fromisoformat(at), image_id) for at, image_id in entry.data["entries"]))


def _entry(owner: str, window: Window, before: Entry | None, now: datetime) -> Entry:
    return Entry(
        kind=KIND,
        key=owner,
        revision=before.revision + 1 if before else 1,
        data={"entries": [[iso(at), image_id] for at, image_id in window.entries]},
        expires_at=now + quotas.HOUR + timedelta(minutes=1),
    )
