"""A real server in one process, with both clients."""

from collections.abc import AsyncIterator

import pytest_asyncio

from darkroom_client import AsyncDarkroom
from tests.cluster import Cluster, embedded
from tests.inference_double import Inference, inference_double
from tests.security import callers

WITH_IDENTITY = {**callers.settings_of(), "API_KEYS": "true"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inference() -> AsyncIterator[Inference]:
    async with inference_double() as inference:
        yield inference


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory, inference) -> AsyncIterator[Cluster]:
    """It requires tokens, so that URLs are signed and a credential can be lost."""
    folder = tmp_path_factory.mktemp("server")
    async with embedded(folder, INFERENCE_SERVICE_URL=inference.url, **WITH_IDENTITY) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def darkroom(cluster) -> AsyncIterator[AsyncDarkroom]:
    async with AsyncDarkroom(cluster.url, token=callers.token(), trust_env=False) as darkroom:
        yield darkroom
