"""Delayed writes: many in one write, whatever happened to the records meanwhile."""

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
    """Counts its writes, fails while `is_unavailable`, and lets another writer act between a read and a write."""

    is_unavailable = False
    writes = 0

    async def between(self):
        """Replaced by a test that needs another writer."""

    async def get_several(self, ids):
        if self.is_unavailable:
            raise Unavailable("store", "no answer")
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
async def running_writer(store):
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


async def test_pending_transitions_are_written_together_on_close(store):
    images = await inserted(store, 20)

    async with running_writer(store) as write_later:
        for image in images:
            await write_later.add(image.id, SENT)

    assert await store.get_several([image.id for image in images]) == {image.id: SENT(image) for image in images}
    assert store.writes == 1


async def test_an_outdated_transition_changes_nothing(store):
    (image,) = await inserted(store)
    running = claimed(image)

    async with running_writer(store) as write_later:
        await store.replace(running)
        await write_later.add(image.id, SENT)

    assert await store.get(image.id) == running


async def test_a_transition_is_retried_if_another_writer_was_faster(store):
    (image,) = await inserted(store)
    pinned = transitions.pin(image, pinned=True)

    async def pin():
        await store.replace(pinned)

    store.between = pin
    async with running_writer(store) as write_later:
        await write_later.add(image.id, SENT)

    assert await store.get(image.id) == SENT(pinned)


async def test_a_removed_record_is_ignored(store):
    (image,) = await inserted(store)

    async with running_writer(store) as write_later:
        await store.remove(image)
        await write_later.add(image.id, SENT)

    assert await store.get(image.id) is None


async def test_transitions_that_the_store_rejects_are_only_logged(store, caplog):
    (image,) = await inserted(store)
    store.is_unavailable = True

    with caplog.at_level(logging.WARNING):
        async with running_writer(store) as write_later:
            await write_later.add(image.id, SENT)

    assert await store.get(image.id) == image
    assert "1 confirmations are not recorded, the janitor publishes again" in caplog.text


async def test_beyond_the_limit_a_transition_is_written_at_once(store, monkeypatch):
    monkeypatch.setattr(write_behind, "MAX_PENDING", 1)
    first, second = await inserted(store, 2)
    write_later = WriteBehind(store)

    await write_later.add(first.id, SENT)
    await write_later.add(second.id, SENT)

    assert await store.get(second.id) == SENT(second)
