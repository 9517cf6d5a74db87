"""A store of its own for each test, with a clock that stands still."""

import pytest

from common.runtime.clock import ManualClock
from common.store.sqlite import SqliteStore


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield store
