"""A record that cannot be read costs only itself."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from common.domain.errors import Unreadable
from common.domain.images import PendingEvent, Status
from common.domain.search import HistoryPosition
from common.store.connect import open_store
from common.store.documents import entry_document, image_document, read_image, readable
from common.store.port import Entry, Store
from services.generator.context import retry_while_unavailable
from tests.making import NOON, an_image

# what a newer version, a tool or a bad disk leave behind; all keep what the indexes need
ODD = {
    "a format of a newer version": {"format": "avif"},
    "a status inside a known one": {"lease": {"token": 5}},
    "a number where text belongs": {"prompt": 5},
    "a field that is missing": {"width": None},
    "a time that is none": {"started_at": "yesterday"},
    "an attempt that is no number": {"attempts": "many"},
}


class Raw:
    """Writes to a store behind its back."""

    def __init__(self, store: Store, url: str) -> None:
        self.store: Any = store
        self.path = url.removeprefix("sqlite:///")

    async def insert(self, image, changes) -> None:
        document = {**image_document(image), **changes}
        document = {name: value for name, value in document.items() if value is not None}
        if hasattr(self.store, "_images"):
            await self.store._images.insert_one(document)
            return
        for name in ("_id", "shown", "waits_since", "started_sent_at"):
            document.pop(name, None)
        stored = json.loads(image.model_dump_json(exclude_none=True))
        text = json.dumps({**stored, **{name: document[name] for name in changes if name in document}})
        gone = [name for name, value in changes.items() if value is None]
        text = json.dumps({name: value for name, value in json.loads(text).items() if name not in gone})
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("INSERT INTO images (id, document) VALUES (?, ?)", (image.id, text))

    async def damage_entry(self, entry: Entry) -> None:
        if hasattr(self.store, "_database"):
            await self.store._entries.insert_one({**entry_document(entry), "data": "not an object"})
            return
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "INSERT INTO entries (kind, key, revision, data) VALUES (?, ?, 1, '{\"a\": ')", (entry.kind, entry.key)
            )


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def raw(request, tmp_path) -> AsyncIterator[Raw]:
    url = f"sqlite:///{tmp_path}/d.db" if request.param == "sqlite" else request.getfixturevalue("database")
    async with open_store(url, timeout_s=10) as store:
        yield Raw(store, url)


@pytest.mark.border(rule="B4")
@pytest.mark.parametrize("odd", ODD)
async def test_a_list_leaves_out_what_cannot_be_read(raw, odd, caplog):
    good = [an_image(created_at=NOON + timedelta(minutes=minute)) for minute in range(4)]
    bad = an_image(created_at=NOON + timedelta(minutes=2, seconds=30))
    for image in good:
        await raw.store.insert(image)
    await raw.insert(bad, ODD[odd])

    newest = [image.id for image in reversed(good)]
    for _ in range(2):
        assert [image.id for image in await raw.store.history("local", set(Status), limit=10)] == newest
    assert [image.id for image in await raw.store.history("local", set(Status), limit=3)] == newest[:3]
    assert [image.id for image in await raw.store.history("local", set(Status), limit=3, offset=3)] == newest[2:]
    after = HistoryPosition(good[3].created_at, good[3].id)
    assert [image.id for image in await raw.store.history("local", set(Status), limit=2, after=after)] == newest[1:3]
    assert set(await raw.store.get_several([bad.id, good[0].id])) == {good[0].id}
    assert await raw.store.known_ids([bad.id, good[0].id, an_image().id]) == {bad.id, good[0].id}
    overdue = await raw.store.overdue(NOON + timedelta(days=1), limit=3)
    assert [image.id for image in overdue] == [image.id for image in good[:3]]
    with pytest.raises(Unreadable, match="cannot be read"):
        await raw.store.get(bad.id)
    assert "a lighthouse" not in caplog.text  # a prompt is private
    warnings = [record for record in caplog.records if bad.id in record.getMessage()]
    assert len(warnings) == 1


@pytest.mark.border(rule="B4")
async def test_the_janitors_queries_leave_out_unreadable_records(raw):
    """Each query gets two bad records, older than the good one, and may return one."""
    later = NOON + timedelta(days=1)
    event = PendingEvent(type="image.failed", revision=1, since=NOON)
    old = {"deleted_at": NOON, "status": Status.FAILED}
    queries: dict[str, Any] = {
        "unsent": ({}, lambda store: store.unsent(created_before=later, now=later, limit=1)),
        "sent": ({"sent_at": NOON}, lambda store: store.sent_before(later, limit=1)),
        "pending": (
            {"status": Status.FAILED, "pending_event": event},
            lambda store: store.pending_events(since_before=later, limit=1),
        ),
        "purgeable": ({"status": Status.FAILED}, lambda store: store.purgeable(later, limit=1)),
        "buried": (old, lambda store: store.awaiting_tombstone(deleted_before=later, limit=1)),
        "tombstones": (
            {**old, "tombstoned_at": NOON},
            lambda store: store.tombstones(tombstoned_before=later, limit=1),
        ),
        "completed": ({"status": Status.COMPLETED}, lambda store: store.completed(after_id="", limit=1)),
    }
    for name, (fields, query) in queries.items():
        for minute in (1, 2):
            bad = an_image(created_at=NOON - timedelta(minutes=minute), **fields)
            await raw.insert(bad, {"format": "avif"})
        good = an_image(created_at=NOON, **fields)
        await raw.store.insert(good)

        found = await query(raw.store)

        assert [image.id for image in found] == [good.id], name
        assert await raw.store.remove(good)


@pytest.mark.border(rule="B4")
async def test_an_entry_that_cannot_be_read_costs_only_itself(raw):
    await raw.store.put_entry(Entry("key", "a", 1, {"owner": "local"}))
    await raw.damage_entry(Entry("key", "b", 1, {}))
    await raw.store.put_entry(Entry("key", "c", 1, {"owner": "local"}))

    assert [entry.key for entry in await raw.store.list_entries("key")] == ["a", "c"]
    with pytest.raises(Unreadable):
        await raw.store.get_entry("key", "b")
    assert await raw.store.remove_entry("key", "b")


@pytest.mark.border(rule="B4")
@pytest.mark.mongodb
async def test_a_date_beyond_the_calendar_costs_only_its_record(database):
    """MongoDB keeps 64 bits of milliseconds, Python ends with the year 9999. The stand-in refuses such a date."""
    import bson
    from bson.datetime_ms import DatetimeMS

    async with open_store(database, timeout_s=10) as store:
        options = Raw(store, database).store._images.codec_options
    good = image_document(an_image())
    answer = bson.encode({"batch": [good, {**good, "started_at": DatetimeMS(2**60)}]})

    read = bson.decode(answer, codec_options=options)["batch"]

    assert len(readable(read, read_image)) == 1


@pytest.mark.border(rule="B4")
async def test_many_unreadable_records_at_once_end_no_reader(raw):
    for minute in range(30):
        await raw.insert(an_image(created_at=NOON + timedelta(minutes=minute)), {"format": "avif"})
    good = an_image(created_at=NOON - timedelta(days=1))
    await raw.store.insert(good)

    async with asyncio.timeout(30):
        assert await raw.store.history("local", set(Status), limit=2) == [good]


@pytest.mark.border(rule="B4")
async def test_a_generator_does_not_wait_for_an_unreadable_record(raw):
    """The command is delivered again, to a replica that may be newer, and is a dead letter in the end."""
    bad = an_image()
    await raw.insert(bad, {"format": "avif"})

    async with asyncio.timeout(30):
        with pytest.raises(Unreadable):
            await retry_while_unavailable(lambda: raw.store.get(bad.id))
