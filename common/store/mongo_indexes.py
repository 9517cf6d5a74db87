"""The indexes of the MongoDB store. A query that needs a new one gets it here."""

from __future__ import annotations

from typing import Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from common.domain.images import Status

# A sparse index holds no document without the field. `id` is used instead of `_id`, which has the same value.
IMAGE_INDEXES: Final = (
    IndexModel([("slot", ASCENDING)], name="slot", unique=True, sparse=True),
    IndexModel([("idempotency", ASCENDING)], name="idempotency", unique=True, sparse=True),
    IndexModel(
        [
            ("owner", ASCENDING),
            ("status", ASCENDING),
            ("shown", ASCENDING),
            ("created_at", DESCENDING),
            ("batch.index", DESCENDING),
            ("id", DESCENDING),
        ],
        name="newest",  # releases without batches have `history`, without the index in the batch
    ),
    # an absent field is a null in an index: images that do not wait are one range of this one, and those of the pool
    # `default` one range of these, also those of releases without turns or pools. Their indexes (`queued`, `queue`,
    # `line`, `waiting`, `started`) stay for their processes.
    IndexModel(
        [("waiting_since", ASCENDING), ("pool", ASCENDING), ("sent_at", ASCENDING), ("created_at", ASCENDING)],
        name="pool_queue",
        partialFilterExpression={"status": Status.QUEUED.value},
    ),
    IndexModel(
        [
            ("owner", ASCENDING),
            ("created_at", ASCENDING),
            ("batch.index", ASCENDING),
            ("id", ASCENDING),
            ("model", ASCENDING),
        ],
        name="line_with_models",
        partialFilterExpression={"waiting_since": {"$exists": True}},
    ),
    IndexModel(
        [
            ("owner", ASCENDING),
            ("model", ASCENDING),
            ("created_at", ASCENDING),
            ("batch.index", ASCENDING),
            ("id", ASCENDING),
        ],
        name="line_by_model",
        partialFilterExpression={"waiting_since": {"$exists": True}},
    ),
    IndexModel(
        [("created_at", ASCENDING)],
        name="waiting_longest",
        partialFilterExpression={"waiting_since": {"$exists": True}},
    ),
    # one key for each word of a prompt
    IndexModel([("owner", ASCENDING), ("words", ASCENDING)], name="words", partialFilterExpression={"shown": True}),
    IndexModel([("batch.id", ASCENDING), ("batch.index", ASCENDING)], name="batch", sparse=True),
    IndexModel([("batch_due", ASCENDING)], name="batch_due", sparse=True),
    IndexModel(
        [("pool", ASCENDING), ("waits_since", ASCENDING), ("id", ASCENDING)],
        name="pool_positions",
        partialFilterExpression={"waits_since": {"$exists": True}},
    ),
    IndexModel(
        [("pool", ASCENDING), ("started_sent_at", DESCENDING)],
        name="pool_started",
        partialFilterExpression={"started_sent_at": {"$exists": True}},
    ),
    IndexModel([("lease.until", ASCENDING)], name="leased", sparse=True),
    IndexModel([("event_due.since", ASCENDING)], name="owing", sparse=True),
    IndexModel(
        [("status", ASCENDING), ("shown", ASCENDING), ("pinned", ASCENDING), ("created_at", ASCENDING)], name="age"
    ),
    IndexModel(
        [("buried_at", ASCENDING), ("deleted_at", ASCENDING)],
        name="deleted",
        partialFilterExpression={"deleted_at": {"$exists": True}},
    ),
)
ENTRY_INDEXES: Final = (
    IndexModel([("kind", ASCENDING), ("key", ASCENDING)], name="kind"),
    IndexModel([("expires_at", ASCENDING)], name="expiring", sparse=True),
)
