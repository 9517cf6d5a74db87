"""`change` with a snapshot of the record."""

from functools import partial

import pytest

from common.domain import transitions
from common.domain.errors import NotFound
from common.store.port import change
from common.store.sqlite import SqliteStore
from tests.making import NOON, an_image


class ReadCountingStore(SqliteStore):
    """Counts the reads."""

    gets = 0

    async def get(self, image_id):
        self.gets += 1
        return await super().get(image_id)


@pytest.fixture
async def store(tmp_path):
    async with ReadCountingStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield store


async def test_a_snapshot_saves_the_read(store):
    image = an_image()
    await store.insert(image)

    changed = await change(store, image.id, partial(transitions.mark_sent, attempts=0, now=NOON), snapshot=image)

    assert (changed.revision, store.gets) == (2, 0)
    assert await store.get(image.id) == changed


async def test_an_outdated_snapshot_is_read_again(store):
    image = an_image()
    await store.insert(image)
    await change(store, image.id, partial(transitions.pin, pinned=True))

    changed = await change(store, image.id, partial(transitions.mark_sent, attempts=0, now=NOON), snapshot=image)

    assert (changed.pinned, changed.sent_at, changed.revision) == (True, NOON, 3)


async def test_a_snapshot_of_a_removed_record_is_not_found(store):
    with pytest.raises(NotFound):
        await change(store, an_image().id, partial(transitions.mark_sent, attempts=0, now=NOON), snapshot=an_image())
