"""A fault cluster for each test: no services yet, an empty broker, an empty folder."""

import os
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.faults.fault_cluster import FaultCluster, fault_cluster

# It needs other brokers than the shared one, and several minutes: `make test-brokers` runs it.
collect_ignore = [] if "TEST_BROKERS" in os.environ else ["test_broker_upgrade.py"]
# It needs a real ComfyUI: `make test-engines` runs it.
collect_ignore += [] if os.environ.get("TEST_ENGINES") else ["test_live_comfyui.py"]


@pytest.fixture
async def cluster(tmp_path, vhost) -> AsyncIterator[FaultCluster]:
    async with fault_cluster(tmp_path, vhost) as cluster:
        yield cluster


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session
