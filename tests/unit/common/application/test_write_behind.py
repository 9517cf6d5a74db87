"""Notes that are written a moment later, many at once, whatever happened to the records meanwhile."""

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest

from common.application import write_behind
from common.application.write_behind import WriteBehind
from common.domain import transitions
from common.domain.errors import Unavailable
from common.domain.images import Lease
from common.store.sqlite import SqliteStore
from tests.making import NOON, an_image

SENT = partial(transitions.mark_sent, attempts=0, now=NOON)


class WriteCountingStore(SqliteStore):
    """Counts its writes; away while it is told so; another writer may come in between a look and a write."""

    is_away = False
    writes = 0

    async def between(self):
        """Nothing comes in between."""

    async def get_several(self, ids):
        if self.is_away:
            raise Unavailable("store", "it is away")
        found = await super().get_several(ids)
        await self.between()
        return found

    async def replace_several(self, images):
        self.writes += 1
        return await super().replace_several(images)


@pytest.fixture
async def store(tmp_path):
    async with WriteCountingStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield store


@asynccontextmanager
async def at_work(store):
    found = WriteBehind(store)
    async with asyncio.TaskGroup() as group:
        group.create_task(found.run())
        try:
            yield found
        finally:
            found.close()


async def inserted(store, count=1):
    found = [an_image() for _ in range(count)]
    for image in found:
        await store.insert(image)
    return found


def claimed(image):
    lease = Lease(token="a", worker="b", until=NOON + timedelta(hours=1))
    return transitions.claim(image, lease=lease, now=NOON, deadline=timedelta(hours=1))


async def test_notes_are_written_together_at_the_latest_when_it_closes(store):
    images = await inserted(store, 20)

    async with at_work(store) as write_later:
        for image in images:
            await write_later.add(image.id, SENT)

    assert await store.get_several([image.id for image in images]) == {image.id: SENT(image) for image in images}
    assert store.writes == 1


async def test_a_note_that_the_record_no_longer_wants_changes_nothing(store):
    (image,) = await inserted(store)
    running = claimed(image)

    async with at_work(store) as write_later:
        await store.replace(running)
        await write_later.add(image.id, SENT)

    assert await store.get(image.id) == running


async def test_a_note_is_applied_again_where_another_writer_was_faster(store):
    (image,) = await inserted(store)
    pinned = transitions.pin(image, pinned=True)

    async def pin():
        await store.replace(pinned)

    store.between = pin
    async with at_work(store) as write_later:
        await write_later.add(image.id, SENT)

    assert await store.get(image.id) == SENT(pinned)


async def test_a_record_that_is_gone_needs_no_note(store):
    (image,) = await inserted(store)

    async with at_work(store) as write_later:
        await store.remove(image)
        await write_later.add(image.id, SENT)

    assert await store.get(image.id) is None


async def test_notes_that_the_store_does_not_take_are_left_to_the_janitor(store, caplog):
    (image,) = await inserted(store)
    store.is_away = True

    with caplog.at_level(logging.WARNING):
        async with at_work(store) as write_later:
            await write_later.add(image.id, SENT)

    assert await store.get(image.id) == image
    assert "1 confirmations are not recorded, the janitor publishes again" in caplog.text


async def test_beyond_what_may_wait_a_note_is_written_at_once(store, monkeypatch):
    monkeypatch.setattr(write_behind, "MAX_PENDING", 1)
    first, second = await inserted(store, 2)
    write_later = WriteBehind(store)

    await write_later.add(first.id, SENT)
    await write_later.add(second.id, SENT)

    assert await store.get(second.id) == SENT(second)
