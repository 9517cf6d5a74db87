"""Fixtures for the tests of webhooks."""

import pytest

from common.application.webhooks.deliveries import Deliveries
from common.runtime.clock import ManualClock
from common.store.sqlite import SqliteStore


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def store(tmp_path):
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=30) as store:
        yield store


@pytest.fixture
def deliveries(store, clock):
    return Deliveries(store, clock)
