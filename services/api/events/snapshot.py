"""The unfinished images of one owner, for the first frame of a websocket."""

from __future__ import annotations

from typing import Final

from common.domain.images import Image, Status
from common.store.port import Store

MAX_IMAGES: Final = 200
_HEAD: Final = 2 * MAX_IMAGES  # images are listed by their creation, and one that waits for a retry is not the next
_UNFINISHED: Final = frozenset({Status.QUEUED, Status.RUNNING})


async def unfinished_images(store: Store, owner: str) -> tuple[list[Image], int]:
    """What is being painted, then what is queued, then what waits for its turn; and how many images there are beyond.

    Both are in their order.
    """
    found = await store.history(owner, _UNFINISHED, limit=MAX_IMAGES + 1)
    if len(found) <= MAX_IMAGES:
        return sorted(found, key=_rank), 0
    # the store lists the newest first: the first in the queue are at the end of the list, which may have grown
    queued = await store.count_history(owner, {Status.QUEUED})
    waiting = await store.history(owner, {Status.QUEUED}, limit=_HEAD + MAX_IMAGES, offset=max(0, queued - _HEAD))
    # read last: an image that is claimed between the two is in both, not in neither
    running = await store.history(owner, {Status.RUNNING}, limit=MAX_IMAGES)
    images = {image.id: image for image in [*waiting, *running]}
    shown = sorted(images.values(), key=_rank)[:MAX_IMAGES]
    return shown, max(0, await store.count_history(owner, _UNFINISHED) - len(shown))


def _rank(image: Image) -> tuple[bool, bool, float, int, str]:
    since = image.queued_since or (image.created_at if image.is_waiting else image.started_at) or image.created_at
    index = image.batch.index if image.batch is not None else -1
    return image.status is not Status.RUNNING, image.is_waiting, since.timestamp(), index, image.id
