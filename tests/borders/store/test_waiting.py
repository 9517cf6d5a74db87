"""What a service does at its start while a dependency is away: it waits for it, with its name in the log."""

import asyncio
import socket
import sqlite3
from contextlib import ExitStack, asynccontextmanager, closing, suppress

import pytest

from common.domain.errors import Misconfigured, Unavailable
from common.runtime.lifetime import StoppedEarly
from common.runtime.reading_settings import read_settings
from common.store import connect
from services import standalone, wiring
from tests.servers.process import free_ports
from tests.waiting import until

pytestmark = pytest.mark.border(rule="C4")


@asynccontextmanager
async def odd_server(kind):
    """The address of a server that is away in some way."""
    if kind == "no such name":
        yield "no-such-host.invalid:27017"
        return
    if kind == "refuses":
        yield f"127.0.0.1:{free_ports(1)[0]}"
        return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task(_serve(listener, kind))
        yield "{}:{}".format(*listener.getsockname())
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def _serve(listener, kind):
    """Plain sockets, all of them closed at the end: a stream of asyncio that ends with its loop warns."""
    loop = asyncio.get_running_loop()
    with ExitStack() as kept:
        while True:
            connection = kept.enter_context((await loop.sock_accept(listener))[0])
            if kind == "another protocol":
                connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            if kind != "silent":
                connection.close()


KINDS = ["refuses", "silent", "closes at once", "another protocol", "no such name"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_database_that_is_away_is_waited_for(tmp_path, caplog, kind):
    stopping = asyncio.Event()
    async with odd_server(kind) as address:
        settings = read_settings({"STORE_URL": f"mongodb://user:hunter2@{address}/d", "STORE_TIMEOUT": "0.3"})
        opening = asyncio.create_task(_open(settings, stopping))
        await until(lambda: caplog.text.count("waiting for the store at") >= 2 or opening.done())
        stopping.set()
        with pytest.raises(StoppedEarly):
            await opening

    assert f"waiting for the store at {address}: " in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_name_server_that_is_away_is_waited_for(tmp_path, caplog, monkeypatch):
    """The hosts of mongodb+srv:// are looked up before there is a connection."""
    import dns.resolver

    def away(*_arguments, **_options):
        raise dns.resolver.NoNameservers

    monkeypatch.setattr("pymongo.synchronous.srv_resolver._resolve", away)
    stopping = asyncio.Event()
    settings = read_settings({"STORE_URL": "mongodb+srv://user:hunter2@db.example.org/d", "STORE_TIMEOUT": "0.5"})
    opening = asyncio.create_task(_open(settings, stopping))
    await until(lambda: caplog.text.count("waiting for the store at") >= 2 or opening.done())
    stopping.set()
    with pytest.raises(StoppedEarly):
        await opening

    assert "waiting for the store at db.example.org: " in caplog.text
    assert "hunter2" not in caplog.text


async def test_hosts_that_can_never_be_looked_up_are_refused():
    with pytest.raises(Misconfigured, match="STORE_URL"):
        await _open(read_settings({"STORE_URL": "mongodb+srv://10.0.0.1/d"}), asyncio.Event())


async def _open(settings, stopping):
    async with wiring.open_resources(settings, name="test", stopping=stopping):
        pass


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize("is_new", [True, False])
async def test_a_file_that_another_process_holds_is_waited_for(tmp_path, caplog, lock, is_new):
    path = tmp_path / "d.db"
    if not is_new:
        async with connect.open_store(f"sqlite:///{path}", timeout_s=5):
            pass
    settings = read_settings(
        {"STORE_URL": f"sqlite:///{path}", "MEDIA_ROOT": str(tmp_path / "media"), "STORE_TIMEOUT": "0.2"}
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"BEGIN {lock}")
        opening = asyncio.create_task(_open(settings, asyncio.Event()))
        await until(lambda: "waiting for the store" in caplog.text or opening.done())
        assert not opening.done()
        connection.execute("ROLLBACK")
        await asyncio.wait_for(opening, 20)


@pytest.mark.parametrize("call", ["get_entry", "put_entry"])
async def test_a_store_that_fails_at_once_is_waited_for(tmp_path, caplog, monkeypatch, call):
    """As during the election of a primary: the first commands may fail as well."""
    failures = [Unavailable("store", "not primary")] * 2
    real = connect.open_store

    @asynccontextmanager
    async def opened(url, *, timeout_s):
        async with real(url, timeout_s=timeout_s) as store:
            method = getattr(store, call)

            async def failing(*arguments):
                if failures:
                    raise failures.pop()
                return await method(*arguments)

            monkeypatch.setattr(store, call, failing)
            yield store

    monkeypatch.setattr(wiring, "open_store", opened)
    monkeypatch.setattr(wiring, "FIRST_PAUSE_S", 0.01)
    settings = read_settings({"STORE_URL": f"sqlite:///{tmp_path}/d.db", "MEDIA_ROOT": str(tmp_path / "media")})

    await asyncio.wait_for(_open(settings, asyncio.Event()), 20)

    assert caplog.text.count("waiting for the store") == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "service", [standalone.api, standalone.generator, standalone.janitor], ids=lambda s: s.__name__
)
async def test_a_broker_that_is_away_is_waited_for(tmp_path, caplog, kind, service):
    """The service starts, is not ready, and ends when it is stopped."""
    stopping = asyncio.Event()
    async with odd_server(kind) as address:
        settings = read_settings(
            {
                "BUS_URL": f"amqp://user:hunter2@{address}/",
                "BUS_TIMEOUT": "0.3",
                "STORE_URL": f"sqlite:///{tmp_path}/d.db",
                "MEDIA_ROOT": str(tmp_path / "media"),
                "API_PORT": "0",
                "INFERENCE_SERVICE_URL": f"http://127.0.0.1:{free_ports(1)[0]}",
            }
        )
        running = asyncio.create_task(service(settings, stopping))
        host, _, port = address.partition(":")
        await until(lambda: f"{host}:{port}" in caplog.text or running.done())
        assert not running.done()
        stopping.set()
        await asyncio.wait_for(running, 20)

    assert "hunter2" not in caplog.text
