"""One broker for all workers of a parallel run, which the process that starts the workers keeps.

worker ── fresh_vhost, add_users, ctl ──▶ main process ──▶ RabbitMQ, started for the first worker that asks
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from tests.servers import rabbitmq
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.rabbitmq_engines import User

VHOSTS = 160  # for all tests: at the start each takes 60 ms, later 80 ms, and tests wait for them up to a minute
LOW = 24  # with fewer virtual hosts left, more are made in advance: that takes 2 s, and half a minute on a busy machine
VARIABLE = "TEST_SHARED_BROKER"  # the address at which the main process listens


class BrokerKeeper:
    """In the main process: calls the methods of the broker for the workers."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-broker-"))
        self._listener = Listener(str(self._folder / "socket"), backlog=16)
        self._broker: RabbitMQ | None = None
        self._starting = threading.Lock()
        self._adding: threading.Thread | None = None
        os.environ[VARIABLE] = str(self._listener.address)
        threading.Thread(target=self._accept, daemon=True).start()

    def start_early(self) -> None:
        """Start the broker while the workers collect their tests."""
        threading.Thread(target=self._call, args=["log_tail", [0]], daemon=True).start()

    def close(self) -> None:
        os.environ.pop(VARIABLE, None)
        self._listener.close()
        if self._adding:
            self._adding.join()
        with self._starting:
            if self._broker:
                self._broker.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection = self._listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection, suppress(EOFError, OSError):
            while True:
                name, arguments = connection.recv()
                connection.send(self._call(name, arguments))

    def _call(self, name: str, arguments: Sequence[object]) -> tuple[object, str]:
        try:
            with self._starting:
                self._broker = self._broker or rabbitmq.open_broker(vhosts=VHOSTS)
                self._add_in_advance(self._broker)
            return getattr(self._broker, name)(*arguments), ""
        except Exception as error:  # noqa: BLE001  # each is one of the worker
            return None, f"{type(error).__name__}: {error}"

    def _add_in_advance(self, broker: RabbitMQ) -> None:
        if broker.fresh_vhosts < LOW and not (self._adding and self._adding.is_alive()):
            self._adding = threading.Thread(target=broker.add_vhosts, daemon=True)
            self._adding.start()


class SharedRabbitMQ:
    """In a worker: the broker of the run, with the methods of `RabbitMQ` that disturb no other test."""

    is_running = True

    def __init__(self, address: str) -> None:
        self._connection = Client(address)
        self._one_at_a_time = threading.Lock()

    def fresh_vhost(self) -> str:
        return str(self._call("fresh_vhost"))

    def add_users(self, *users: User) -> None:
        self._call("add_users", *users)

    def ctl(self, *arguments: str) -> str:
        return str(self._call("ctl", *arguments))

    def log_tail(self, lines: int = 40) -> str:
        return str(self._call("log_tail", lines))

    def start(self) -> None:
        raise AssertionError("it runs until the end of the run")

    def close(self) -> None:
        self._connection.close()

    def _call(self, name: str, *arguments: object) -> object:
        with self._one_at_a_time:
            self._connection.send((name, arguments))
            result, error = self._connection.recv()
        if error:
            raise RuntimeError(error)
        return result


def open_broker() -> RabbitMQ | SharedRabbitMQ:
    """The broker of this test process: a shared one in a worker of a parallel run."""
    address = os.environ.get(VARIABLE)
    return SharedRabbitMQ(address) if address else rabbitmq.open_broker()
