"""The commands sent to MongoDB, word for word: a single server accepts more than a replica set does."""

import asyncio
import copy
from datetime import UTC, datetime
from functools import partial

import pytest
from pymongo import monitoring

from common.domain import transitions
from common.domain.images import Lease, Status
from common.domain.search import HistoryFilter, HistoryPosition
from common.store.mongo import MongoStore
from common.store.port import Entry
from tests.making import NOON, an_image
from tests.unit.common.store.test_documents import an_image_with_everything, nulls

pytestmark = pytest.mark.mongodb


class CommandRecorder(monitoring.CommandListener):
    """Keeps the commands that the driver sends while a test listens."""

    def __init__(self):
        self.sent = None

    def started(self, event):
        if self.sent is not None and event.command_name not in {"hello", "endSessions", "ping"}:
            self.sent.append(copy.deepcopy({name: event.command[name] for name in event.command.keys() - PLUMBING}))

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


PLUMBING = {"lsid", "$db", "$clusterTime", "txnNumber", "$readPreference"}
MAJORITY = {"writeConcern": {"w": "majority", "j": True}}
recorder = CommandRecorder()
monitoring.register(recorder)  # for the whole process: the driver knows no other way than by the client's maker


@pytest.fixture
async def sent(store):
    """The commands that this test makes the driver send."""
    recorder.sent = []
    yield recorder.sent
    recorder.sent = None


@pytest.fixture
async def store(database):
    async with MongoStore.open(database, timeout_s=10) as store:
        yield store


async def test_the_indexes_are_created_at_the_start(database):
    """A store opens an empty database: each index is created under its name, with its keys and options."""
    sent: list[dict] = []
    recorder.sent = sent
    async with MongoStore.open(database, timeout_s=10):
        recorder.sent = None

    made = {command["createIndexes"]: {index.pop("name"): index for index in command["indexes"]} for command in sent}
    for indexes in made.values():
        for index in indexes.values():
            index["key"] = dict(index["key"])
    assert made == {
        "images": {
            "slot": {"key": {"slot": 1}, "unique": True, "sparse": True},
            "idempotency": {"key": {"idempotency": 1}, "unique": True, "sparse": True},
            "newest": {"key": {"owner": 1, "status": 1, "shown": 1, "created_at": -1, "batch.index": -1, "id": -1}},
            "pool_queue": {
                "key": {"waiting_since": 1, "pool": 1, "sent_at": 1, "created_at": 1},
                "partialFilterExpression": {"status": "queued"},
            },
            "line_with_models": {
                "key": {"owner": 1, "created_at": 1, "batch.index": 1, "id": 1, "model": 1},
                "partialFilterExpression": {"waiting_since": {"$exists": True}},
            },
            "line_by_model": {
                "key": {"owner": 1, "model": 1, "created_at": 1, "batch.index": 1, "id": 1},
                "partialFilterExpression": {"waiting_since": {"$exists": True}},
            },
            "waiting_longest": {
                "key": {"created_at": 1},
                "partialFilterExpression": {"waiting_since": {"$exists": True}},
            },
            "words": {"key": {"owner": 1, "words": 1}, "partialFilterExpression": {"shown": True}},
            "batch": {"key": {"batch.id": 1, "batch.index": 1}, "sparse": True},
            "batch_due": {"key": {"batch_due": 1}, "sparse": True},
            "pool_positions": {
                "key": {"pool": 1, "waits_since": 1, "id": 1},
                "partialFilterExpression": {"waits_since": {"$exists": True}},
            },
            "pool_started": {
                "key": {"pool": 1, "started_sent_at": -1},
                "partialFilterExpression": {"started_sent_at": {"$exists": True}},
            },
            "leased": {"key": {"lease.until": 1}, "sparse": True},
            "owing": {"key": {"event_due.since": 1}, "sparse": True},
            "age": {"key": {"status": 1, "shown": 1, "pinned": 1, "created_at": 1}},
            "deleted": {
                "key": {"buried_at": 1, "deleted_at": 1},
                "partialFilterExpression": {"deleted_at": {"$exists": True}},
            },
        },
        "entries": {
            "kind": {"key": {"kind": 1, "key": 1}},
            "expiring": {"key": {"expires_at": 1}, "sparse": True},
        },
    }


async def test_an_insert_is_one_document_for_a_majority(store, sent):
    image = an_image(slot="local:0")

    await store.insert(image)

    [command] = sent
    document = command["documents"][0]
    assert command == {"insert": "images", "ordered": True, "documents": [document], **MAJORITY}
    assert (document["_id"], document["created_at"], document["status"]) == (image.id, NOON, "queued")
    assert "idempotency" not in document


async def test_a_replace_names_the_revision_before(store, sent):
    image = an_image(slot="local:0")
    cancelled = transitions.cancel(image, now=NOON)

    await store.replace(cancelled)

    [command] = sent
    [update] = command["updates"]
    assert command == {"update": "images", "ordered": True, "updates": [update], **MAJORITY}
    assert update["q"] == {"_id": image.id, "revision": 1}
    assert (update["u"]["revision"], update["multi"], update.get("upsert", False)) == (2, False, False)
    assert not {"slot", "idempotency"} & update["u"].keys()


async def test_no_null_is_sent_in_a_document(store, sent):
    image = an_image_with_everything()
    await store.insert(image)
    await store.replace(transitions.tombstone(transitions.delete(an_image(id=image.id), now=NOON), now=NOON))
    await store.replace_several([transitions.cancel(an_image(), now=NOON)])
    await store.put_entry(Entry("quota", "a", 1, {"times": []}))
    await store.put_entry(Entry("quota", "a", 2, {"times": []}))

    documents = [
        *(document for command in sent for document in command.get("documents", [])),
        *(update["u"] for command in sent for update in command.get("updates", [])),
    ]

    assert len(documents) == 5
    assert not any(map(nulls, documents))


async def test_deletes_name_the_revision(store, sent):
    first, second = an_image(), an_image(revision=7)

    await store.remove(first)
    await store.remove_several([first, second])

    assert [command["delete"] for command in sent] == ["images", "images"]
    assert [[(each["q"], each["limit"]) for each in command["deletes"]] for command in sent] == [
        [({"_id": first.id, "revision": 1}, 1)],
        [({"_id": first.id, "revision": 1}, 1), ({"_id": second.id, "revision": 7}, 1)],
    ]
    assert all(command["writeConcern"] == MAJORITY["writeConcern"] for command in sent)


async def test_entries_are_written_by_revision(store, sent):
    await store.put_entry(Entry("quota", "local", 1, {}, expires_at=NOON))
    await store.put_entry(Entry("quota", "local", 2, {}))
    await store.remove_entry("quota", "local")
    await store.remove_expired_entries(NOON)

    inserted, replaced, discarded, expired = sent
    assert inserted["documents"] == [
        {"_id": "quota:local", "kind": "quota", "key": "local", "revision": 1, "data": {}, "expires_at": NOON}
    ]
    assert replaced["updates"][0]["q"] == {"_id": "quota:local", "revision": 1}
    assert discarded["deletes"] == [{"q": {"_id": "quota:local"}, "limit": 1}]
    assert expired["deletes"] == [{"q": {"expires_at": {"$lte": NOON}}, "limit": 0}]


CUT = datetime(2025, 1, 15, 11, tzinfo=UTC)
NOT_BEFORE = [{"not_before": None}, {"not_before": {"$lte": NOON}}]
SHOWN = {"owner": "local", "status": {"$in": ["completed"]}, "shown": True}
PURGEABLE = {
    "status": {"$in": ["cancelled", "completed", "failed"]},
    "shown": True,
    "pinned": False,
    "created_at": {"$lt": CUT},
}
AFTER = HistoryPosition(CUT, "the-id")
NEWEST = {"created_at": -1, "batch.index": -1, "id": -1}
FINDS = {
    "history": (partial(MongoStore.history, owner="local", statuses=[Status.COMPLETED], limit=5), SHOWN, NEWEST),
    "history after": (
        partial(
            MongoStore.history,
            owner="local",
            statuses=[Status.COMPLETED],
            limit=5,
            after=HistoryPosition(CUT, "the-id"),
        ),
        {
            **SHOWN,
            "created_at": {"$lte": CUT},
            "$or": [{"created_at": {"$lt": CUT}}, {"batch.index": None, "id": {"$lt": "the-id"}}],
        },
        NEWEST,
    ),
    "history of a batch": (
        partial(
            MongoStore.history,
            owner="local",
            statuses=[Status.COMPLETED],
            limit=5,
            after=HistoryPosition(CUT, "the-id", index=3),
            where=HistoryFilter(batch_id="b"),
        ),
        {
            **SHOWN,
            "batch.id": "b",
            "created_at": {"$lte": CUT},
            "$or": [
                {"created_at": {"$lt": CUT}},
                {"batch.index": 3, "id": {"$lt": "the-id"}},
                {"batch.index": {"$lt": 3}},
                {"batch.index": None},
            ],
        },
        NEWEST,
    ),
    "waiting": (
        partial(MongoStore.queued_ids, now=NOON, limit=5),
        {"pool": None, "waits_since": {"$lte": NOON}},
        {"waits_since": 1, "id": 1},
    ),
    "unsent": (
        partial(MongoStore.unsent, created_before=CUT, now=NOON, limit=5),
        {
            "status": "queued",
            "waiting_since": None,
            "pool": None,
            "sent_at": None,
            "created_at": {"$lt": CUT},
            "$or": NOT_BEFORE,
        },
        {"created_at": 1},
    ),
    "sent_before": (
        partial(MongoStore.sent_before, moment=CUT, limit=5),
        {
            "status": "queued",
            "waiting_since": None,
            "pool": None,
            "sent_at": {"$lt": CUT},
            "$or": [{"not_before": None}, {"not_before": {"$lt": CUT}}],
        },
        {"sent_at": 1},
    ),
    "last_started": (
        partial(MongoStore.latest_started_sent_at, pool="flux"),
        {"pool": "flux", "started_sent_at": {"$exists": True}},
        {"started_sent_at": -1},
    ),
    "running": (
        partial(MongoStore.running, limit=5),
        {"status": "running", "lease.until": {"$exists": True}},
        {"lease.until": 1},
    ),
    "owing": (
        partial(MongoStore.pending_events, since_before=CUT, limit=5),
        {"event_due.since": {"$lt": CUT}},
        {"event_due.since": 1},
    ),
    "overdue": (
        partial(MongoStore.overdue, dispatched_before=CUT, limit=5),
        {
            "$or": [
                {"status": status, "waiting_since": None, **dispatched}
                for status in ("queued", "running")
                for dispatched in (
                    {"dispatched_at": {"$lt": CUT}},
                    {"dispatched_at": None, "created_at": {"$lt": CUT}},
                )
            ]
        },
        {"created_at": 1},
    ),
    "next_waiting": (
        partial(MongoStore.next_waiting, owner="local", now=NOON, limit=5),
        {"owner": "local", "waiting_since": {"$exists": True}, "$or": NOT_BEFORE},
        {"created_at": 1, "batch.index": 1, "id": 1},
    ),
    "next_waiting of a model": (
        partial(MongoStore.next_waiting, owner="local", now=NOON, limit=5, models=["sdxl"]),
        {"owner": "local", "model": "sdxl", "waiting_since": {"$exists": True}, "$or": NOT_BEFORE},
        {"created_at": 1, "batch.index": 1, "id": 1},
    ),
    "dispatched_to": (
        partial(MongoStore.dispatched_to, pool="flux", limit=5),
        {"pool": "flux", "waits_since": {"$exists": True}},
        {"waits_since": 1, "id": 1},
    ),
    "waiting_overdue": (
        partial(MongoStore.waiting_overdue, created_before=CUT, limit=5),
        {"waiting_since": {"$exists": True}, "created_at": {"$lt": CUT}},
        {"created_at": 1},
    ),
    "purgeable": (partial(MongoStore.purgeable, created_before=CUT, limit=5), PURGEABLE, {"created_at": 1}),
    "unburied": (
        partial(MongoStore.awaiting_tombstone, deleted_before=CUT, limit=5),
        {"buried_at": None, "deleted_at": {"$lt": CUT}},
        {"deleted_at": 1},
    ),
    "tombstones": (
        partial(MongoStore.tombstones, tombstoned_before=CUT, limit=5),
        {"buried_at": {"$lt": CUT}, "deleted_at": {"$exists": True}, "event_due": None},
        {"buried_at": 1},
    ),
    "completed": (
        partial(MongoStore.completed, after_id="the-id", limit=5),
        {"_id": {"$gt": "the-id"}, "status": "completed", "shown": True},
        {"_id": 1},
    ),
}


@pytest.mark.parametrize(("call", "query", "order"), FINDS.values(), ids=FINDS)
async def test_a_query_asks_for_what_its_index_holds(store, sent, call, query, order):
    await call(store)

    [command] = sent
    assert (command["find"], command["filter"], dict(command["sort"])) == ("images", query, order)
    assert command["limit"] == (1 if order == {"started_sent_at": -1} else 5)


@pytest.mark.parametrize(
    ("call", "query"),
    [
        (partial(MongoStore.count_history, owner="local", statuses=[Status.COMPLETED]), SHOWN),
        (partial(MongoStore.count_purgeable, created_before=CUT), PURGEABLE),
    ],
)
async def test_a_count_reads_nothing_but_its_index(store, sent, call, query):
    await call(store)

    [command] = sent
    assert command["pipeline"] == [{"$match": query}, {"$group": {"_id": 1, "n": {"$sum": 1}}}]


async def test_a_queue_position_is_counted_up_to_the_limit(store, sent):
    await store.queued_ids(NOON, limit=5)
    await store.count_queued_before(NOON, "the-id", limit=5)

    listed, counted = sent
    assert listed["projection"] == {"_id": False, "id": True}, "from the index alone"
    earlier = [{"waits_since": {"$lt": NOON}}, {"id": {"$lt": "the-id"}}]
    before = {"pool": None, "waits_since": {"$lte": NOON}, "$or": earlier}
    assert counted["pipeline"] == [{"$match": before}, {"$limit": 5}, {"$group": {"_id": 1, "n": {"$sum": 1}}}]


async def test_the_images_of_a_thousand_ids_are_one_question(store, sent):
    wanted = [an_image().id for _ in range(1000)]

    await store.get_several(wanted)

    assert [command["filter"] for command in sent] == [{"_id": {"$in": wanted}}]


async def test_a_lease_is_searched_where_it_is_kept(store, sent):
    await store.insert(an_image(status=Status.RUNNING, lease=Lease(token="t", worker="w", until=NOON)))

    assert sent[0]["documents"][0]["lease"] == {"token": "t", "worker": "w", "until": NOON}


async def test_several_are_replaced_one_by_one(store, sent):
    records = [an_image() for _ in range(30)]

    await asyncio.wait_for(store.replace_several([transitions.cancel(image, now=NOON) for image in records]), 30)

    assert sorted(command["updates"][0]["q"]["_id"] for command in sent) == sorted(image.id for image in records)
