"""Servers for the command line: one that answers oddly, a real one."""

import pytest
import pytest_asyncio

from services.cli.images import connection
from tests.borders.cli.odd_server import OddServer
from tests.cluster import embedded
from tests.inference_double import inference_double


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Short waits, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(connection, "POLL_S", 0.02)
    monkeypatch.setattr(connection, "PATIENCE_S", 0.2)
    monkeypatch.setattr(connection, "REPEATS_S", (0.01, 0.01))
    monkeypatch.setattr(connection, "HANDSHAKE_S", 0.5)


@pytest.fixture
async def server():
    async with OddServer().running() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inference():
    async with inference_double() as double:
        yield double


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def darkroom(inference, tmp_path_factory):
    """A real server."""
    async with embedded(tmp_path_factory.mktemp("server"), INFERENCE_SERVICE_URL=inference.url) as cluster:
        yield cluster
