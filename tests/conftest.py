"""Fixtures for every test: the real servers, started when the first test asks for them."""

import gc
import os
from collections.abc import Generator, Iterator
from typing import NoReturn
from zlib import crc32

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.cluster import Service
from tests.media_folder import BUCKETS
from tests.servers import cog as cog_servers
from tests.servers import mongodb as mongodb_server
from tests.servers import object_store as object_store_server
from tests.servers import rabbitmq as rabbitmq_server
from tests.servers.mongodb import MongoDB
from tests.servers.object_store import Bucket, ObjectStore
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.sharing import VARIABLE, BrokerKeeper, SharedRabbitMQ, open_broker

Service.forked = True
FEW = 8  # virtual hosts, for the tests that stop their broker


def pytest_configure(config: pytest.Config) -> None:
    config.add_cleanup(BUCKETS.close)
    is_worker = hasattr(config, "workerinput")
    if config.getoption("numprocesses", None) and not is_worker and not os.environ.get("TEST_BUS_URL"):
        keeper = BrokerKeeper()
        config.add_cleanup(keeper.close)
        if rabbitmq_server.source() and "not rabbitmq" not in config.option.markexpr:
            keeper.start_early()


class FewBrowsers(LoadFileScheduling):  # type: ignore[misc]
    """Whole files to each worker, those of the browser to two: Chromium and its server take 4 s of a core to start."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return f"browser {crc32(file.encode()) % 2}" if file.startswith("tests/browser/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FewBrowsers | None:
    return FewBrowsers(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from all that collecting makes: it stays to the end, and takes a fifth of a run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000)  # not at each 700 objects: another twelfth
        gc.enable()


def pytest_report_header() -> str:
    sources = {"rabbitmq": rabbitmq_server.source(), "mongodb": mongodb_server.source(), "cog": cog_servers.version()}
    return "; ".join(f"{name}: {source or 'none'}" for name, source in sources.items())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests that need a server, so that `-m "not rabbitmq"` selects the quick half, and variants that are `long`.

    Files with slow tests run first: a worker runs whole files, so a slow file at the end keeps the other worker
    waiting. A broker restarts in 7 s while it is new, in 20 s once a hundred tests have left their queues in it.
    """
    for item in items:
        for server in {"rabbitmq", "own_rabbitmq", "mongodb"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(server.removeprefix("own_"))
    _mark_long_variants(items, whole=not any("::" in argument for argument in config.args))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _mark_long_variants(items: list[pytest.Item], *, whole: bool) -> None:
    """Mark the variants that `long_unless` does not name; of a `whole` collection each name has a variant."""
    unused: dict[str, set[str]] = {}
    for item in items:
        if mark := item.get_closest_marker("long_unless"):
            function, _, variant = item.nodeid.removesuffix("]").partition("[")
            names = {name for name in mark.args if variant.startswith(name)}
            unused[function] = unused.get(function, set(mark.args)) - names
            if not names:
                item.add_marker("long")
    if whole and (wrong := {function: names for function, names in unused.items() if names}):
        raise pytest.UsageError(f"long_unless names variants that do not exist: {wrong}")


def missing(what: str) -> NoReturn:
    """Skip the test whose server is not here; with CI set, fail it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="session")
def rabbitmq_of_the_run() -> Iterator[RabbitMQ | SharedRabbitMQ]:
    if rabbitmq_server.source() is None:
        missing("no RabbitMQ: set TEST_BUS_URL, start Docker, or install rabbitmq-server")
    broker = open_broker()
    yield broker
    broker.close()


@pytest.fixture
def rabbitmq(rabbitmq_of_the_run: RabbitMQ | SharedRabbitMQ) -> RabbitMQ | SharedRabbitMQ:
    """The broker, which all workers of a run share: a test may change what is in its virtual host."""
    return rabbitmq_of_the_run


@pytest.fixture(scope="session")
def own_rabbitmq_of_the_run(request: pytest.FixtureRequest) -> Iterator[RabbitMQ]:
    shared = request.getfixturevalue("rabbitmq_of_the_run")
    if VARIABLE not in os.environ:
        yield shared
        return
    broker = rabbitmq_server.open_broker(vhosts=FEW)
    yield broker
    broker.close()


@pytest.fixture
def own_rabbitmq(own_rabbitmq_of_the_run: RabbitMQ) -> Iterator[RabbitMQ]:
    """A broker that no other test uses meanwhile: it may be stopped, and is started again afterwards."""
    yield own_rabbitmq_of_the_run
    if not own_rabbitmq_of_the_run.is_running:
        own_rabbitmq_of_the_run.start()


@pytest.fixture
def vhost(rabbitmq: RabbitMQ | SharedRabbitMQ) -> str:
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


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    server = object_store_server.open_server()
    yield server
    server.close()


@pytest.fixture
def bucket(object_store: ObjectStore) -> Bucket:
    """An empty bucket for this test only."""
    return object_store.fresh_bucket()
