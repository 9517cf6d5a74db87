"""A MongoDB for the tests: given by URL, in Docker, or SecantusDB, which speaks MongoDB's wire protocol.

    MongoDB           what tests hold: url, fresh_database(), served_by, stop(), kill(), start(), log_tail()
       └── engine     how it is run: Given | InDocker | Secantus

Environment: `TEST_STORE_URL` names a running server; `TEST_MONGODB_IMAGE` another image.
"""

import os
import secrets
import shutil
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.servers import docker
from tests.servers.process import Process, free_ports

IMAGE = "mongo:8.0"
START_LIMIT_S = 100.0  # 1 s for SecantusDB, 3 to 5 s for a container; below the time limit of a test
# SecantusDB is under the GPL: a tool in an environment of its own, made by `make servers`, and no dependency.
SECANTUSDB = Path(__file__).parents[2] / ".venv-secantusdb"


class MongoEngine(Protocol):
    """How the server is run."""

    def start(self) -> str: ...  # waits until it answers; gives its URL
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...
    def log(self) -> str: ...


class MongoDB:
    """A server that tests may stop, kill and start again: its address and its data stay.

    `start`, `stop` and `kill` block; inside a coroutine call them by `asyncio.to_thread`.
    """

    def __init__(self, engine: MongoEngine, *, served_by: str) -> None:
        self._engine = engine
        self._databases: list[str] = []
        self.served_by = served_by
        try:
            self.url = engine.start()
        except BaseException:
            engine.close()
            raise
        self.is_running = True

    def fresh_database(self) -> str:
        """The URL of an empty database that no other test has."""
        name = f"test_{secrets.token_hex(6)}"
        self._databases.append(name)
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def start(self) -> None:
        """Start it again, where it was and with what it had; returns when it answers."""
        self._engine.start()
        self.is_running = True

    def stop(self) -> None:
        self._engine.stop()
        self.is_running = False

    def kill(self) -> None:
        """End it as a power cut would."""
        self._engine.kill()
        self.is_running = False

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self._engine.log().splitlines()[-lines:])

    def close(self) -> None:
        """Drop what the tests made where the server stays, and end it where it is ours."""
        if isinstance(self._engine, Given):
            self._engine.drop(self._databases)
        self._engine.close()


def image() -> str:
    return os.environ.get("TEST_MONGODB_IMAGE", IMAGE)


def source() -> str | None:
    """Where the server comes from, in words; None if there is none."""
    if os.environ.get("TEST_STORE_URL"):
        return "TEST_STORE_URL"
    if docker.answers():
        return f"Docker, {image()}"
    if version := secantusdb_version():
        return f"SecantusDB {version}, not a mongod"
    return None


def secantusdb_version() -> str | None:
    """The version that is installed in SecantusDB's environment; None if there is none."""
    folders = [str(folder) for folder in SECANTUSDB.glob("lib/python*/site-packages")]
    return next((each.version for each in distributions(name="secantusdb", path=folders)), None)


def open_server() -> MongoDB:
    """Start the server that `source` names."""
    served_by = source()
    if served_by is None:
        raise FileNotFoundError("no MongoDB, no Docker and no SecantusDB")
    if given := os.environ.get("TEST_STORE_URL"):
        return MongoDB(Given(given), served_by=served_by)
    if docker.answers():
        return MongoDB(InDocker(image()), served_by=served_by)
    return MongoDB(Secantus(), served_by=served_by)


class Secantus:
    """SecantusDB: MongoDB's wire protocol over WiredTiger, the storage engine of MongoDB.

    As with MongoDB, a write that was confirmed with `j: true` survives a kill, and others may be lost. The option
    `--sync-on-commit` would sync these too, and each new index: a store then opens in 95 ms instead of 25 ms.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-mongodb-"))
        self._configuration = self._folder / "secantusd.toml"
        self._configuration.touch()
        self._port = free_ports(1)[0]
        self._server: Process | None = None

    def start(self) -> str:
        self._server = Process(
            [
                str(SECANTUSDB / "bin" / "secantusd-py"),
                *("--config", str(self._configuration)),  # empty; without it the user's or the system's is read
                *("--host", "127.0.0.1"),
                *("--port", str(self._port)),
                *("--storage-path", str(self._folder / "data")),
                "--standalone",  # else it is a replica set, and drivers go past a proxy to the address it names
                *("--log-level", "WARNING"),
            ],
            folder=self._folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},  # no variable may make it less durable
            log=self._folder / "output",
        )
        return _wait_until_it_answers(f"mongodb://127.0.0.1:{self._port}/", while_running=self._server)

    def stop(self) -> None:
        if self._server:
            self._server.stop()

    def kill(self) -> None:
        if self._server:
            self._server.kill()

    def close(self) -> None:
        self.kill()  # stopping takes 2 s, for data that are removed
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        return (self._folder / "output").read_text(errors="replace")


class InDocker:
    """A container of the official image, without users."""

    def __init__(self, image: str) -> None:
        self._container = docker.Container(image, port=27017, files={})
        self._address: tuple[str, int] | None = None

    def start(self) -> str:
        if self._address is None:
            self._address = self._container.create()
        else:
            self._container.start()
        host, port = self._address
        return _wait_until_it_answers(f"mongodb://{host}:{port}/")

    def stop(self) -> None:
        self._container.stop()

    def kill(self) -> None:
        self._container.kill()

    def close(self) -> None:
        self._container.remove()

    def log(self) -> str:
        return self._container.log()


class Given:
    """A running server that is not ours: a test that would stop it is skipped."""

    def __init__(self, url: str) -> None:
        self._url = url

    def start(self) -> str:
        return _wait_until_it_answers(self._url)

    def stop(self) -> None:
        pytest.skip("the server at TEST_STORE_URL is not ours to stop")

    def kill(self) -> None:
        pytest.skip("the server at TEST_STORE_URL is not ours to kill")

    def close(self) -> None:
        pass

    def drop(self, databases: list[str]) -> None:
        from pymongo import MongoClient  # slow, and only real servers need it

        with MongoClient[dict[str, Any]](self._url) as client:
            for name in databases:
                client.drop_database(name)

    def log(self) -> str:
        return "the log of the server at TEST_STORE_URL is not ours to read"


def _wait_until_it_answers(url: str, *, while_running: Process | None = None) -> str:
    """Ping until it answers: a container of MongoDB opens its port once before it is set up."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    deadline = time.monotonic() + START_LIMIT_S
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=200) as client:
        while True:
            try:
                client.admin.command("ping")
                return url
            except PyMongoError as error:
                if while_running and not while_running.is_running:
                    raise TimeoutError("the server ended while it started") from error
                if time.monotonic() > deadline:
                    raise TimeoutError(f"MongoDB did not answer at {url} within {START_LIMIT_S} s") from error
            time.sleep(0.05)
