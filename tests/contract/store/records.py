"""Records, entries and small transitions for the store's contract."""

import asyncio
from datetime import timedelta

from common.domain.images import Format, Image, Lease, PendingEvent, Picture
from common.store.port import Entry
from tests.making import NOON

SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
LEASE = Lease(token="t", worker="w", until=NOON + 30 * SECOND)
PICTURE = Picture(
    image_file="generated_images/2025/01/x.png",
    thumbnail="thumbnails/2025/01/x.png",
    format=Format.PNG,
    file_size=9,
    width=64,
    height=64,
    generation_time=1.5,
)
PENDING = PendingEvent(type="image.failed", revision=1, since=NOON)


def next_of(image: Image, **changes) -> Image:
    return image.model_copy(update={**changes, "revision": image.revision + 1})


def counted(image: Image) -> Image:
    return next_of(image, failures=image.failures + 1)


async def keep(store, *records: Image) -> None:
    await asyncio.gather(*map(store.insert, records))


def ids(records) -> list[str]:
    return [image.id for image in records]


def an_entry(**fields) -> Entry:
    return Entry(
        **{"kind": "quota", "key": "local", "revision": 1, "data": {"times": [1.5, 2], "a": {"b": True}}, **fields}
    )
