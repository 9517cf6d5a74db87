import asyncio
import contextlib
import fcntl
import os
import re
import resource
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from subprocess import PIPE

import pytest

from common.domain.errors import Misconfigured, Unavailable
from common.domain.images import Status
from common.domain.search import HistoryFilter, HistoryPosition, terms_of
from common.store import sqlite as adapter
from common.store import sqlite_threads
from common.store.documents import image_text
from common.store.port import Entry
from common.store.sqlite import SqliteStore
from common.store.sqlite_schema import VERSION
from services.janitor.search_index import index_old_images
from tests.making import NOON, an_image
from tests.servers.fork_server import forked_python


@pytest.fixture
def path(tmp_path):
    return tmp_path / "darkroom.db"


@contextlib.contextmanager
def locked(path):
    """Another process holds the lock for writing."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


async def test_open_makes_the_folder_and_keeps_what_is_there(tmp_path):
    path = tmp_path / "a" / "b" / "darkroom.db"
    image = an_image()
    async with SqliteStore.open(path, timeout_s=5) as store:
        await store.insert(image)

    async with SqliteStore.open(path, timeout_s=5) as store:
        assert await store.get(image.id) == image

    assert [file.name for file in path.parent.iterdir()] == ["darkroom.db"]  # the log was taken in


async def test_what_was_accepted_outlives_the_process(path):
    child = await forked_python("-c", INSERTING, str(path), stdout=PIPE, limit=1_000_000)
    accepted = [(await child.stdout.readline()).decode().strip() for _ in range(100)]
    child.kill()
    rest, _ = await child.communicate()
    accepted += rest.decode().split("\n")[:-1]

    async with SqliteStore.open(path, timeout_s=5) as store:
        assert (await store.get_several(accepted)).keys() == set(accepted)
        assert await store.count_history("local", [Status.QUEUED]) >= len(accepted)


INSERTING = """
import asyncio, sys
from pathlib import Path
from common.store.sqlite import SqliteStore
from tests.making import an_image
async def insert(store):
    while True:
        image = an_image()
        await store.insert(image)
        print(image.id, flush=True)
async def main(path):
    async with SqliteStore.open(Path(path), timeout_s=5) as store:
        await asyncio.gather(*(insert(store) for _ in range(10)))
asyncio.run(main(*sys.argv[1:]))
"""


async def test_tables_of_a_newer_release_are_refused(path):
    async with SqliteStore.open(path, timeout_s=5):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")

    with pytest.raises(Misconfigured, match=f"version {VERSION + 1}") as refused:
        async with SqliteStore.open(path, timeout_s=5):
            pass

    assert refused.value.code == "store_too_new"


VERSION_3 = Path(__file__).with_name("schema_3.sql").read_text()
VERSION_2 = Path(__file__).with_name("schema_2.sql").read_text()
TO_VERSION_1 = """
DROP VIEW waiting;
DROP INDEX waiting_index;
ALTER TABLE images DROP COLUMN waits_since;
PRAGMA user_version = 1;
"""


@pytest.mark.parametrize("script", [VERSION_3, VERSION_2, VERSION_2 + TO_VERSION_1], ids=["3", "2", "1"])
async def test_opening_an_older_file_upgrades_its_schema(path, tmp_path, script):
    """Two processes open a file of an older release that holds an image; its schema becomes that of a new file."""
    image = an_image()
    async with SqliteStore.open(tmp_path / "new.db", timeout_s=5):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        new = schema_of(connection)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(script)
        connection.execute("INSERT INTO images (id, document) VALUES (?, ?)", (image.id, image_text(image)))

    async with SqliteStore.open(path, timeout_s=5) as one, SqliteStore.open(path, timeout_s=5) as other:
        found = [await store.queued_ids(NOON, limit=5) for store in (one, other)]
        overdue = await one.overdue(NOON + timedelta(seconds=1), limit=5)

    with contextlib.closing(sqlite3.connect(path)) as connection:
        upgraded = schema_of(connection)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    assert (found, overdue) == ([[image.id]] * 2, [image])
    assert (upgraded, version) == (new, VERSION)


async def test_what_an_older_file_holds_is_indexed(path):
    """A file of an older release, with deleted, damaged and ordinary images: the janitor's start indexes them."""
    found = [an_image(status=Status.COMPLETED, pinned=n > 0) for n in range(3)]
    deleted = an_image(deleted_at=NOON)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(VERSION_2)
        rows = [(image.id, image_text(image)) for image in [*found, deleted]]
        damaged = ("00", image_text(found[0]).replace("completed", "unknown"))
        connection.executemany("INSERT INTO images (id, document) VALUES (?, ?)", [damaged, *rows])
    where = HistoryFilter(terms=terms_of("light"))

    async with SqliteStore.open(path, timeout_s=5) as store:
        new = an_image(status=Status.COMPLETED)
        await store.insert(new)
        before = await store.history("local", list(Status), limit=9, where=where)
        await index_old_images(store)
        after = await store.history("local", list(Status), limit=9, where=where)
        pinned = await store.count_history("local", list(Status), where=HistoryFilter(pinned=True))

    assert before == [new]
    assert after == sorted([new, *found], key=lambda image: image.id, reverse=True)
    assert pinned == 2


def schema_of(connection: sqlite3.Connection) -> dict[str, object]:
    """Views and indexes as they were written; of a table the names of its columns, whose order may differ."""
    written = connection.execute("SELECT name, type, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return {
        name: {column[1] for column in connection.execute(f"PRAGMA table_xinfo({name})")} if kind == "table" else sql
        for name, kind, sql in written
    }


async def test_the_database_of_another_program_is_refused(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE books (title TEXT)")

    with pytest.raises(Misconfigured, match="another program") as refused:
        async with SqliteStore.open(path, timeout_s=5):
            pass

    assert refused.value.code == "store_foreign"


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(Misconfigured, match="STORE_URL"):
        async with SqliteStore.open(tmp_path / "file" / "darkroom.db", timeout_s=5):
            pass


async def test_an_old_sqlite_is_refused(path, monkeypatch):
    monkeypatch.setattr(adapter, "OLDEST_SQLITE", (99, 0, 0))

    with pytest.raises(Misconfigured, match="SQLite is"):
        async with SqliteStore.open(path, timeout_s=5):
            pass


async def test_a_file_that_is_no_database_is_refused(path):
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)

    with pytest.raises(Misconfigured, match=r"STORE_URL: .*file is not a database"):
        async with SqliteStore.open(path, timeout_s=5):
            pass


async def test_a_path_that_cannot_be_opened_is_refused(path):
    path.mkdir()

    with pytest.raises(Misconfigured, match=r"STORE_URL: .*unable to open"):
        async with SqliteStore.open(path, timeout_s=5):
            pass


async def test_a_locked_file_is_unavailable_to_who_opens_it(path):
    async with SqliteStore.open(path, timeout_s=5):
        pass

    with locked(path), pytest.raises(Unavailable, match="SQLITE_BUSY"):
        async with SqliteStore.open(path, timeout_s=0.2):
            pass


async def test_a_locked_file_is_unavailable_to_writers_only(path):
    image = an_image()
    async with SqliteStore.open(path, timeout_s=0.5) as store:
        with locked(path):
            for write in (
                store.insert(image),
                store.put_entry(Entry("quota", "a", 1, {})),
                store.remove_several([image]),
            ):
                with pytest.raises(Unavailable, match="no answer within"):
                    await write
            assert await store.get(image.id) is None
            await store.check()

        await store.insert(image)


async def test_writers_take_turns(path):
    """The other process holds the folder, but not yet the file."""
    image, other = an_image(), os.open(path.parent, os.O_RDONLY)
    async with SqliteStore.open(path, timeout_s=0.3) as store:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="no answer within"):
            await store.insert(image)
        assert await store.get(image.id) is None
        os.close(other)

        await store.insert(an_image(id=image.id))

        assert (await store.get(image.id)).id == image.id


async def test_a_folder_without_locks_has_no_turns(path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    image = an_image()
    async with SqliteStore.open(path, timeout_s=5) as store:
        await store.insert(image)

        assert await store.get(image.id) == image


async def test_a_writer_waits_for_another_process(path):
    image = an_image()
    async with SqliteStore.open(path, timeout_s=5) as store:
        with locked(path):
            writing = asyncio.create_task(store.insert(image))
            await store.check()
            assert not writing.done()
        await writing

        assert await store.get(image.id) == image


async def test_a_damaged_file_is_unavailable(path):
    image = an_image()
    async with SqliteStore.open(path, timeout_s=5) as store:
        await store.insert(image)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'images'").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)

    async with SqliteStore.open(path, timeout_s=5) as store:
        with pytest.raises(Unavailable, match="SQLITE_CORRUPT"):
            await store.get(image.id)
        with pytest.raises(Unavailable, match="SQLITE_CORRUPT"):
            await store.insert(an_image())


async def test_a_full_disk_is_unavailable_and_spoils_nothing(path):
    first, second = an_image(), an_image(prompt="x" * 200_000)
    async with SqliteStore.open(path, timeout_s=5) as store:
        await store.insert(first)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)  # beyond it a write fails, as on a full disk
        log_bytes = path.with_name("darkroom.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (log_bytes + 50_000, limits[1]))
        try:
            with pytest.raises(Unavailable):
                await store.insert(second)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        assert await store.get(second.id) is None
        assert await store.count_history("local", [Status.QUEUED]) == 1
        await store.insert(second)
        assert await store.get(second.id) == second


async def test_a_read_that_nobody_waits_for_is_broken_off(path):
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    async with SqliteStore.open(path, timeout_s=0.5) as store:
        calls = [store._value(endless) for _ in range(adapter.READERS)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        await store.check()


async def test_a_cancelled_write_happens_as_a_whole_or_not(path):
    async with SqliteStore.open(path, timeout_s=5) as store:
        images = [an_image() for _ in range(200)]
        tasks = [asyncio.create_task(store.insert(image)) for image in images]
        await asyncio.sleep(0)  # all have begun
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        await store.insert(an_image())
        found = await store.get_several([image.id for image in images])
        assert await store.count_history("local", [Status.QUEUED]) == len(found) + 1
        assert all(found[image.id] == image for image in images if image.id in found)


async def test_a_fault_in_one_write_harms_nobody_else(path):
    async with SqliteStore.open(path, timeout_s=5) as store:
        outcomes = await asyncio.gather(
            store.insert(an_image()),
            store.insert(an_image(slot="\ud800")),  # cannot be encoded
            store.insert(an_image()),
            return_exceptions=True,
        )

        assert [type(outcome) for outcome in outcomes] == [type(None), UnicodeEncodeError, type(None)]


async def test_a_call_beyond_the_queue_limit_fails_at_once(path, monkeypatch):
    monkeypatch.setattr(sqlite_threads, "MAX_WAITING", 3)
    async with SqliteStore.open(path, timeout_s=5) as store:
        with locked(path):
            waiting = [asyncio.create_task(store.insert(an_image())) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="3 calls are waiting already"):
                await store.insert(an_image())
        await asyncio.gather(*waiting)


async def test_a_closed_store_is_unavailable(path):
    async with SqliteStore.open(path, timeout_s=5) as store:
        writing = asyncio.create_task(store.insert(an_image()))
        await asyncio.sleep(0)
    await writing  # it was accepted, so it was done

    with pytest.raises(Unavailable, match="closed"):
        await store.check()


async def test_every_query_is_answered_from_an_index(path, monkeypatch):
    """Each query of the port runs once; the plan of each statement that reached SQLite searches an index."""
    monkeypatch.setattr(adapter, "READERS", 1)
    asked: list[str] = []
    image = an_image()
    position = HistoryPosition(NOON, image.id, index=3)
    batch = HistoryFilter(batch_id=image.id)
    month = HistoryFilter(since=NOON - timedelta(days=30), until=NOON)
    async with SqliteStore.open(path, timeout_s=5) as store:
        await store._readers.run(lambda connection: connection.set_trace_callback(asked.append))
        calls: list[Callable] = [
            partial(store.get, image.id),
            partial(store.find_by_idempotency, "local:k"),
            partial(store.history, "local", [Status.COMPLETED], limit=5),
            partial(store.history, "local", list(Status), limit=5, offset=5),
            partial(store.history, "local", list(Status), limit=5, after=position),
            partial(store.history, "local", list(Status), limit=5, where=batch),
            partial(store.history, "local", [Status.QUEUED], limit=5, where=batch, after=position),
            partial(store.count_history, "local", list(Status)),
            partial(store.count_history, "local", list(Status), where=batch),
            partial(store.history, "local", list(Status), limit=5, where=month),
            partial(store.history, "local", list(Status), limit=5, where=month, oldest_first=True, after=position),
            partial(store.count_history, "local", list(Status), where=month),
            store.queued_pools,
            partial(store.queued_ids, NOON, limit=5, pool="flux"),
            partial(store.dispatched_to, "flux", limit=5),
            partial(store.count_dispatched, limit=5, pool="flux"),
            partial(store.count_queued_before, NOON, image.id, limit=5),
            partial(store.next_waiting, "local", now=NOON, limit=5),
            partial(store.next_waiting, "local", now=NOON, limit=5, models=["sdxl"]),
            partial(store.waiting_models, "local"),
            partial(store.waiting_line, "local", limit=5),
            partial(store.count_waiting, "local", limit=5),
            partial(store.owners_waiting, after="", limit=5),
            partial(store.waiting_overdue, NOON, limit=5),
            partial(store.held_slots, ["local:0"]),
            partial(store.incomplete_batches, due_before=NOON, limit=5),
            partial(store.batch_members, image.id),
            partial(store.unsent, created_before=NOON, now=NOON, limit=5),
            partial(store.sent_before, NOON, limit=5),
            store.latest_started_sent_at,
            partial(store.running, limit=5),
            partial(store.pending_events, since_before=NOON, limit=5),
            partial(store.overdue, NOON, limit=5),
            partial(store.purgeable, NOON, limit=5),
            partial(store.count_purgeable, NOON),
            partial(store.awaiting_tombstone, deleted_before=NOON, limit=5),
            partial(store.tombstones, tombstoned_before=NOON, limit=5),
            partial(store.get_several, [image.id]),
            partial(store.completed, after_id=image.id, limit=5),
            partial(store.get_entry, "quota", "local"),
            partial(store.list_entries, "quota"),
        ]
        for call in calls:
            await call()
    assert len(asked) == len(calls)

    with contextlib.closing(sqlite3.connect(path)) as connection:
        plans = {query: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")] for query in asked}

    linear = re.compile(r"SCAN (?!json_each|\(subquery)|TEMP B-TREE")
    assert {query: plan for query, plan in plans.items() if linear.search(" ".join(plan))} == {}
