"""Fixtures that run one contract suite over all adapters of a port."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from common.bus.port import Bus
from common.media.connect import open_media
from common.media.port import Media
from common.store.connect import open_store
from common.store.port import Store
from tests.contract.bus.support import System, memory_system, rabbit_system
from tests.servers.object_store import Bucket
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.sharing import SharedRabbitMQ

TIMEOUT_S = 30  # of one operation: a thousand records took SecantusDB 10 s at a load of 20


@pytest.fixture(scope="session")
def shared_vhost(rabbitmq_of_the_run: RabbitMQ | SharedRabbitMQ) -> str:
    """The URL of a virtual host for all tests of the contract that this process runs."""
    return rabbitmq_of_the_run.fresh_vhost()


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
async def system(request: pytest.FixtureRequest) -> AsyncIterator[System]:
    opened = memory_system() if request.param == "memory" else rabbit_system(request.getfixturevalue("shared_vhost"))
    async with opened as system:
        yield system


@pytest.fixture
async def bus(system: System) -> Bus:
    return await system.process()


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, one for each adapter."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/darkroom.db"
    url: str = request.getfixturevalue("database")
    return url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with open_store(store_url, timeout_s=TIMEOUT_S) as store:
        yield store


@pytest.fixture
async def other(store_url: str, store: Store) -> AsyncIterator[Store]:
    """The same store, opened by another replica."""
    async with open_store(store_url, timeout_s=TIMEOUT_S) as other:
        yield other


@pytest.fixture(params=["files", "objects"])
def opening_media(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Media]]:
    """Opens an empty media store, one for each adapter; called again, the same one as another process does."""
    if request.param == "files":
        return lambda: open_media(f"{tmp_path}/new/media")
    bucket: Bucket = request.getfixturevalue("bucket")
    return lambda: open_media(bucket.root, bucket.settings())


@pytest.fixture
async def media(opening_media: Callable[[], AbstractAsyncContextManager[Media]]) -> AsyncIterator[Media]:
    async with opening_media() as media:
        yield media
