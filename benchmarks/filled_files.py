"""Filled stores that are built once and kept in `.tools/bench`; each measurement takes a copy."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.filled_store import an_image, fill_store
from benchmarks.measurements import report_progress
from common.domain.images import Image, Lease, Status
from common.store import sqlite_schema
from common.store.documents import image_text
from common.store.sqlite_writes import index_row, insert

KEPT = Path(__file__).parent.parent / ".tools" / "bench"
OWNERS = 1_000  # with waiting images
BUSY_OWNERS = 100  # of them, and each holds all its slots
BUSY_SLOTS = 20
WORKER_S = 36_000.0  # a lease that no benchmark outlives
MOST_AGE_S = 1_200.0  # of a kept store with running images: they fail at GENERATION_DEADLINE, an hour after that


def copy_filled(count: int, file: Path, *, waiting: int = 0, is_busy: bool = False) -> None:
    """Put a store of so many completed and waiting images there; `is_busy` says that no owner has a free slot."""
    kept = KEPT / f"filled-{count}-{waiting}{'-busy' if is_busy else ''}-v{sqlite_schema.VERSION}.db"
    if is_busy and kept.exists() and time.time() - kept.stat().st_mtime > MOST_AGE_S:
        kept.unlink()
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.unlink(missing_ok=True)
        if waiting:
            copy_filled(count, part)
            add_waiting(part, waiting, owners=BUSY_OWNERS if is_busy else OWNERS)
            if is_busy:
                _add_running(part)
        else:
            fill_store(part, count)
        part.rename(kept)
        report_progress(f"filled {count:,}, {waiting:,} waiting")
    shutil.copyfile(kept, file)
    with file.open("rb+") as written:  # or the first commit of what is measured would wait for all of it
        os.fsync(written.fileno())


def owner_name(number: int) -> str:
    return f"waiting-{number:04}"


def add_waiting(file: Path, count: int, *, owners: int = OWNERS) -> None:
    """Add images that wait for their turn; each has a place in the line of its owner."""
    now = datetime.now(UTC) - timedelta(hours=1)
    owners = min(owners, count)

    def images() -> Iterator[Image]:
        for number in range(count):
            created_at = now + timedelta(milliseconds=number)
            place, owner = divmod(number, owners)
            name = owner_name(owner)
            fields = {"owner": name, "waiting_since": created_at, "sent_at": None, "slot": f"{name}:w{place}"}
            yield an_image(Status.QUEUED, created_at).model_copy(update=fields)

    _add(file, images())


def _add_running(file: Path) -> None:
    """Let the busy owners hold all their slots, by images whose worker seems to live."""
    now = datetime.now(UTC)
    lease = Lease(token="benchmark", worker="benchmark", until=now + timedelta(seconds=WORKER_S), length_s=WORKER_S)

    def images() -> Iterator[Image]:
        for number in range(BUSY_OWNERS * BUSY_SLOTS):
            slot, owner = divmod(number, BUSY_OWNERS)
            name = owner_name(owner)
            created_at = now - timedelta(hours=2) + timedelta(milliseconds=number)
            fields = {
                "owner": name,
                "slot": f"{name}:{slot}",
                "status": Status.RUNNING,
                "attempts": 1,
                "started_at": created_at,
                "dispatched_at": now,
                "lease": lease,
                "pool": "elsewhere",  # nor do they count in the queue of the pool that is measured
            }
            yield an_image(Status.QUEUED, created_at).model_copy(update=fields)

    _add(file, images())


def _add(file: Path, images: Iterator[Image]) -> None:
    with closing(sqlite_schema.connect(file, readers=0, timeout_s=5)[0]) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for image in images:
            insert(connection, image, image_text(image), index_row(image))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
