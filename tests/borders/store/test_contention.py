"""A compare-and-swap that loses again and again backs off."""

import asyncio
from functools import partial

import pytest

from common.application.early_cancels import remember_cancel
from common.application.quota_store import QuotaStore
from common.domain import transitions
from common.domain.errors import Unavailable
from common.messages import CancelImage
from common.runtime.clock import ManualClock
from common.store import port
from common.store.port import change
from common.store.sqlite import SqliteStore
from tests.making import NOON, an_image


class LosingStore(SqliteStore):
    """Another writer wins the first `losses` times."""

    losses = 0
    tries = 0

    async def replace(self, image):
        self.tries += 1
        return self.tries > self.losses and await super().replace(image)

    async def put_entry(self, entry):
        self.tries += 1
        return self.tries > self.losses and await super().put_entry(entry)


@pytest.fixture
async def store(tmp_path):
    async with LosingStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield store


@pytest.fixture
def waits(monkeypatch):
    """The seconds of each wait, without waiting."""
    slept: list[float] = []

    async def sleep(seconds, _sleep=asyncio.sleep):
        slept.append(seconds)
        await _sleep(0)

    monkeypatch.setattr("common.store.port.asyncio.sleep", sleep)
    return slept


async def pinned(store):
    image = an_image()
    await store.insert(image)
    return await change(store, image.id, partial(transitions.pin, pinned=True))


async def counted(store):
    return await QuotaStore("quota", 5, store, ManualClock()).reserve("local", "x")


async def cancelled(store):
    command = CancelImage(id="1", source="shop", subject=an_image().id)
    await remember_cancel(store, command.subject, command, expires_at=NOON)


WRITES = [pinned, counted, cancelled]


@pytest.mark.border(rule="C4")
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("losses", "waited"), [(0, 0), (1, 0), (port.FREE_LOSSES, 0), (20, 20 - port.FREE_LOSSES)])
async def test_only_a_writer_that_loses_again_and_again_waits(store, waits, write, losses, waited):
    store.losses = losses

    await write(store)

    assert len(waits) == waited
    assert all(0 < seconds <= port.MAX_BACK_OFF_S for seconds in waits)
    assert waits[:5] == sorted(waits[:5])


@pytest.mark.border(rule="C4")
@pytest.mark.parametrize("write", WRITES)
async def test_a_writer_that_can_never_win_ends(store, waits, write):
    """As for a document whose id was changed by hand: it is found, and never replaced."""
    store.losses = 10**9

    with pytest.raises(Unavailable, match="in a row were overtaken"):
        await write(store)

    assert store.tries == port.MAX_LOSSES + 1
    assert sum(waits) < 15


@pytest.mark.border(rule="C4")
async def test_writers_of_one_record_all_win_in_the_end(store):
    image = an_image()
    await store.insert(image)

    def counted_up(record):
        return record.model_copy(update={"attempts": record.attempts + 1, "revision": record.revision + 1})

    async with asyncio.timeout(60):
        await asyncio.gather(*(change(store, image.id, counted_up) for _ in range(40)))

    assert (await store.get(image.id)).attempts == 40
