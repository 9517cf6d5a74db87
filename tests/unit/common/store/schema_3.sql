CREATE TABLE images (
    id TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL,
    revision INTEGER NOT NULL AS (document ->> '$.revision'),
    owner TEXT NOT NULL AS (document ->> '$.owner'),
    status TEXT NOT NULL AS (document ->> '$.status'),
    pinned INTEGER NOT NULL AS (document ->> '$.pinned'),
    created_at TEXT NOT NULL AS (document ->> '$.created_at'),
    not_before TEXT AS (document ->> '$.not_before'),
    waiting_since TEXT AS (document ->> '$.waiting_since'),
    dispatched_at TEXT AS (coalesce(document ->> '$.dispatched_at', document ->> '$.created_at')),
    waits_since TEXT AS (
        coalesce(document ->> '$.not_before', document ->> '$.dispatched_at', document ->> '$.created_at')
    ),
    batch_id TEXT AS (document ->> '$.batch.id'),
    batch_index INTEGER AS (document ->> '$.batch.index'),
    batch_due TEXT AS (document ->> '$.batch_due'),
    sent_at TEXT AS (document ->> '$.sent_at'),
    started_at TEXT AS (document ->> '$.started_at'),
    lease_until TEXT AS (document ->> '$.lease.until'),
    event_since TEXT AS (document ->> '$.event_due.since'),
    deleted_at TEXT AS (document ->> '$.deleted_at'),
    buried_at TEXT AS (document ->> '$.buried_at'),
    slot TEXT AS (document ->> '$.slot'),
    idempotency TEXT AS (document ->> '$.idempotency')
) STRICT;
CREATE UNIQUE INDEX unique_slot ON images (slot) WHERE slot IS NOT NULL;
CREATE UNIQUE INDEX unique_idempotency ON images (idempotency) WHERE idempotency IS NOT NULL;
CREATE VIEW shown AS SELECT * FROM images WHERE deleted_at IS NULL;
CREATE INDEX shown_index ON images (owner, status, created_at, batch_index, id) WHERE deleted_at IS NULL;
CREATE VIEW queue AS SELECT * FROM images WHERE status = 'queued' AND waiting_since IS NULL;
CREATE INDEX queue_index ON images (waits_since, id) WHERE status = 'queued' AND waiting_since IS NULL;
CREATE VIEW waiting AS SELECT * FROM images WHERE waiting_since IS NOT NULL;
CREATE INDEX waiting_index ON images (owner, created_at, batch_index, id) WHERE waiting_since IS NOT NULL;
CREATE VIEW waiting_longest AS SELECT * FROM images WHERE waiting_since IS NOT NULL;
CREATE INDEX waiting_longest_index ON images (created_at) WHERE waiting_since IS NOT NULL;
CREATE VIEW batches AS SELECT * FROM images WHERE batch_id IS NOT NULL;
CREATE INDEX batches_index ON images (batch_id, batch_index) WHERE batch_id IS NOT NULL;
CREATE VIEW batches_due AS SELECT * FROM images WHERE batch_due IS NOT NULL;
CREATE INDEX batches_due_index ON images (batch_due) WHERE batch_due IS NOT NULL;
CREATE VIEW unsent AS SELECT * FROM images WHERE status = 'queued' AND sent_at IS NULL AND waiting_since IS NULL;
CREATE INDEX unsent_index ON images (created_at) WHERE status = 'queued' AND sent_at IS NULL AND waiting_since IS NULL;
CREATE VIEW sent AS SELECT * FROM images WHERE status = 'queued' AND sent_at IS NOT NULL AND waiting_since IS NULL;
CREATE INDEX sent_index ON images (sent_at) WHERE status = 'queued' AND sent_at IS NOT NULL AND waiting_since IS NULL;
CREATE VIEW started AS SELECT * FROM images WHERE started_at >= sent_at;
CREATE INDEX started_index ON images (sent_at) WHERE started_at >= sent_at;
CREATE VIEW leased AS SELECT * FROM images WHERE status = 'running' AND lease_until IS NOT NULL;
CREATE INDEX leased_index ON images (lease_until) WHERE status = 'running' AND lease_until IS NOT NULL;
CREATE VIEW owing AS SELECT * FROM images WHERE event_since IS NOT NULL;
CREATE INDEX owing_index ON images (event_since) WHERE event_since IS NOT NULL;
CREATE VIEW dispatched AS SELECT * FROM images WHERE status IN ('queued', 'running') AND waiting_since IS NULL;
CREATE INDEX dispatched_index ON images (dispatched_at) WHERE status IN ('queued', 'running') AND waiting_since IS NULL;
CREATE VIEW purgeable AS SELECT * FROM images WHERE status IN ('completed', 'failed', 'cancelled') AND pinned = 0 AND deleted_at IS NULL;
CREATE INDEX purgeable_index ON images (created_at) WHERE status IN ('completed', 'failed', 'cancelled') AND pinned = 0 AND deleted_at IS NULL;
CREATE VIEW unburied AS SELECT * FROM images WHERE deleted_at IS NOT NULL AND buried_at IS NULL;
CREATE INDEX unburied_index ON images (deleted_at) WHERE deleted_at IS NOT NULL AND buried_at IS NULL;
CREATE VIEW tombstones AS SELECT * FROM images WHERE buried_at IS NOT NULL AND event_since IS NULL;
CREATE INDEX tombstones_index ON images (buried_at) WHERE buried_at IS NOT NULL AND event_since IS NULL;
CREATE TABLE totals (
        owner TEXT NOT NULL, status TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (owner, status)
    ) STRICT, WITHOUT ROWID;
CREATE TRIGGER totals_insert AFTER INSERT ON images WHEN new.deleted_at IS NULL BEGIN
        INSERT INTO totals VALUES (new.owner, new.status, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    END;
CREATE TRIGGER totals_update AFTER UPDATE ON images
    WHEN (old.owner, old.status, old.deleted_at IS NULL) != (new.owner, new.status, new.deleted_at IS NULL) BEGIN
        UPDATE totals SET n = n - 1 WHERE owner = old.owner AND status = old.status AND old.deleted_at IS NULL;
        DELETE FROM totals WHERE owner = old.owner AND status = old.status AND n = 0;
        INSERT INTO totals SELECT new.owner, new.status, 1 WHERE new.deleted_at IS NULL
            ON CONFLICT DO UPDATE SET n = n + 1;
    END;
CREATE TRIGGER totals_delete AFTER DELETE ON images WHEN old.deleted_at IS NULL BEGIN
        UPDATE totals SET n = n - 1 WHERE owner = old.owner AND status = old.status;
        DELETE FROM totals WHERE owner = old.owner AND status = old.status AND n = 0;
    END;
CREATE TABLE entries (
        kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, data TEXT NOT NULL, expires_at TEXT,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
CREATE INDEX entries_expiring ON entries (expires_at) WHERE expires_at IS NOT NULL;
PRAGMA application_id = 1148349298;
PRAGMA user_version = 3;
