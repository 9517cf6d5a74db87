"""Fixtures for every test: the real servers, started when the first test asks for them."""

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.cluster import Service
from tests.servers import cog as cog_servers
from tests.servers import mongodb as mongodb_server
from tests.servers import rabbitmq as rabbitmq_server
from tests.servers.cog import CogServer
from tests.servers.mongodb import MongoDB
from tests.servers.rabbitmq import RabbitMQ

Service.forked = True


def pytest_report_header() -> str:
    sources = {"rabbitmq": rabbitmq_server.source(), "mongodb": mongodb_server.source(), "cog": cog_servers.version()}
    return "; ".join(f"{name}: {source or 'none'}" for name, source in sources.items())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need a server, so that `-m "not rabbitmq"` selects the quick half.

    Files with slow tests run first: a worker runs whole files, so a slow file at the end keeps the other worker
    waiting. A broker restarts in 7 s while it is new, in 20 s once a hundred tests have left their queues in it.
    """
    for item in items:
        for server in {"rabbitmq", "mongodb"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(server)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def missing(what: str) -> NoReturn:
    """Skip the test whose server is not here; with CI set, fail it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="session")
def rabbitmq_of_the_run() -> Iterator[RabbitMQ]:
    if rabbitmq_server.source() is None:
        missing("no RabbitMQ: set TEST_BUS_URL, start Docker, or install rabbitmq-server")
    broker = rabbitmq_server.open_broker()
    yield broker
    broker.close()


@pytest.fixture
def rabbitmq(rabbitmq_of_the_run: RabbitMQ) -> Iterator[RabbitMQ]:
    """The broker, running; it is started again after a test that stops it."""
    yield rabbitmq_of_the_run
    if not rabbitmq_of_the_run.is_running:
        rabbitmq_of_the_run.start()


@pytest.fixture
def vhost(rabbitmq: RabbitMQ) -> str:
    """The URL of a virtual host for this test only."""
    return rabbitmq.fresh_vhost()


@pytest.fixture(scope="session")
def mongodb_of_the_run() -> Iterator[MongoDB]:
    if mongodb_server.source() is None:
        missing("no MongoDB: set TEST_STORE_URL, start Docker, or run make servers")
    server = mongodb_server.open_server()
    yield server
    server.close()


@pytest.fixture
def mongodb(mongodb_of_the_run: MongoDB) -> Iterator[MongoDB]:
    """MongoDB, running; a test that stops it need not start it again."""
    yield mongodb_of_the_run
    if not mongodb_of_the_run.is_running:
        mongodb_of_the_run.start()


@pytest.fixture
def database(mongodb: MongoDB) -> str:
    """The URL of a database for this test only."""
    return mongodb.fresh_database()


@pytest.fixture
def cog_of_the_run() -> CogServer:
    """A real cog server; tests share it, and leave nothing in it."""
    if cog_servers.version() is None:
        missing("no cog: run make servers")
    server = cog_servers.server_of_the_run()
    server.reset()
    return server
