"""A scene for each test: no services yet, an empty broker, nothing on disk."""

import os
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.faults.fault_cluster import FaultCluster, fault_cluster

# It needs brokers beside the one that all tests share, and minutes: `make test-brokers` has both.
collect_ignore = [] if "TEST_BROKERS" in os.environ else ["test_broker_upgrade.py"]


@pytest.fixture
async def cluster(tmp_path, vhost) -> AsyncIterator[FaultCluster]:
    async with fault_cluster(tmp_path, vhost) as cluster:
        yield cluster


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session
