"""A scene for each test: no services yet, an empty broker, nothing on disk."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.faults.scene import Scene, scene


@pytest.fixture
async def stage(tmp_path, vhost) -> AsyncIterator[Scene]:
    async with scene(tmp_path, vhost) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session
