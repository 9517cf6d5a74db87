"""A service waits for its store at the start."""

import asyncio
import os
import sqlite3
from contextlib import asynccontextmanager, closing
from subprocess import PIPE

import pytest

from common.domain.errors import Misconfigured
from common.store.connect import open_store, store_location
from tests.servers.fork_server import forked_python
from tests.servers.process import free_ports


@asynccontextmanager
async def service(tmp_path, **env):
    """`darkroom up` as a process, with its log as a stream."""
    settings = {
        "MEDIA_ROOT": str(tmp_path / "media"),
        "API_PORT": "0",
        "INFERENCE_PORT": "0",
        "STORE_TIMEOUT": "0.5",
        "STORE_URL": f"sqlite:///{tmp_path}/d.db",
        **env,
    }
    process = await forked_python("-m", "services", "up", env={**os.environ, **settings}, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(process, text, limit_s=30):
    async with asyncio.timeout(limit_s):
        while line := (await process.stderr.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"the process ended without {text!r}")


@pytest.mark.border(rule="C4")
async def test_a_store_that_is_away_is_waited_for_with_its_host_named(tmp_path):
    port = free_ports(1)[0]
    url = f"mongodb://user:hunter2@127.0.0.1:{port}/darkroom?authSource=admin"
    async with service(tmp_path, STORE_URL=url) as process:
        line = await line_with(process, "waiting for the store")
        again = await line_with(process, "waiting for the store")
        process.terminate()

        async with asyncio.timeout(60):
            assert await process.wait() == 0
    assert f"127.0.0.1:{port}" in line
    assert "hunter2" not in line + again


@pytest.mark.border(rule="C4")
async def test_a_store_that_comes_later_is_used(tmp_path):
    """Another process has locked the file, as while it is copied."""
    path = tmp_path / "d.db"
    async with open_store(f"sqlite:///{path}", timeout_s=5):
        pass
    async with service(tmp_path) as process:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            assert str(path).removeprefix("/") in await line_with(process, "waiting for the store")
            connection.execute("ROLLBACK")

        await line_with(process, "taking ticks")
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0


@pytest.mark.border(rule="C4")
@pytest.mark.mongodb
@pytest.mark.long
async def test_a_mongodb_that_comes_later_is_used(tmp_path, mongodb):
    url = mongodb.fresh_database()
    mongodb.stop()
    async with service(tmp_path, STORE_URL=url) as process:
        await line_with(process, "waiting for the store")
        mongodb.start()

        await line_with(process, "taking ticks")
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0


@pytest.mark.border(rule="C4")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("readPreference=secondary", "readPreference"),
        ("readPreference=secondaryPreferred", "readPreference"),
        ("readpreference=nearest", "readPreference"),
        ("readPreference=primaryPreferred", "readPreference"),
        ("w=0", "w=0"),
        ("W=0&retryWrites=true", "w=0"),
    ],
)
async def test_options_that_break_the_promises_are_refused(options, named):
    with pytest.raises(Misconfigured, match=f"STORE_URL: {named}"):
        async with open_store(f"mongodb://user:hunter2@host/db?{options}", timeout_s=1):
            pass


@pytest.mark.border(rule="C4")
@pytest.mark.parametrize("options", ["", "?w=majority&readPreference=primary", "?w=1&journal=false"])
@pytest.mark.mongodb
async def test_options_of_the_version_before_still_open_the_store(database, options):
    async with open_store(database.partition("?")[0] + options, timeout_s=10) as store:
        await store.check()
        concern = getattr(store, "_images").write_concern.document  # noqa: B009 - of this adapter only

    assert concern == {"w": "majority", "j": True}


@pytest.mark.border(rule="C4")
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://user:p%40ss@h1:27017,h2/db?x=1", "h1:27017,h2"),
        ("mongodb+srv://u:p@cluster.example.org/db", "cluster.example.org"),
        ("sqlite:////srv/a%20b.db", "/srv/a b.db"),
        ("sqlite:///var/d.db", "var/d.db"),
    ],
)
def test_the_place_of_a_store_is_shown_without_its_password(url, shown):
    assert store_location(url) == shown


@pytest.mark.border(rule="C4")
@pytest.mark.parametrize("kind", ["folder", "text", "another program's"])
async def test_a_file_that_is_no_store_is_refused_and_not_waited_for(tmp_path, kind):
    path = tmp_path / "d.db"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_bytes(b"not a database at all" * 100)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")

    async with service(tmp_path) as process:
        assert "STORE_URL" in await line_with(process, "darkroom: ")
        async with asyncio.timeout(60):
            assert await process.wait() == 1
