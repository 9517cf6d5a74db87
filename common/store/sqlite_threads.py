"""The threads that run SQLite's statements.

    coroutine ── run ──▶ queue ──▶ thread with its own connection ──▶ future, set on the event loop

One executor with one thread writes: all waiting writes are committed together, and no caller gets a result before the
commit. So a hundred writers share one fsync. The processes that write to one file wait for a lock. Another executor
with a few threads reads. If a caller times out or is cancelled before its job has started, the job is skipped; a
started read is interrupted, a started write completes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from common.domain.errors import Unavailable

T = TypeVar("T")

MAX_WAITING: Final = 10_000  # jobs of an executor, about a second of writes; beyond it, calls fail at once
MAX_ROWS: Final = 200  # of one transaction, except a single larger job: about 20 ms, so other processes get their turn
CLOSE_LIMIT_S: Final = 30.0  # for the jobs that wait; those that can be run take less than a second
PROGRESS_STEPS: Final = 20_000  # instructions of SQLite between two checks whether a reader still waits: about 1 ms


@dataclass(slots=True, eq=False)
class StoreJob:
    work: Callable[[sqlite3.Connection], Any]
    rows: int
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class WriteLock:
    """A lock of the processes that write to one file, on its folder; the kernel lets them wait for it.

    On SQLite's own lock they can only poll. When 300 slots of 12 generators ended at once, on two cores, that took a
    third of the generators' CPU, and some claims waited for 3 s; with this lock, no claim took 2 s.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY)
        self._is_in_use = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock. On a file system without such locks the processes poll."""
        self._is_in_use = True
        with suppress(OSError):
            fcntl.flock(self._folder, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(self._folder, fcntl.LOCK_UN)
            self._is_in_use = False

    def close(self) -> None:
        if not self._is_in_use:  # else its thread still waits for a process that is stopped
            os.close(self._folder)


class SqliteExecutor:
    """A queue of jobs and the threads that process it; `run_batch` sets the result or the error of each job.

    A thread owns its connection and closes it when it ends.
    """

    def __init__(
        self,
        connections: Iterable[sqlite3.Connection],
        run_batch: Callable[[sqlite3.Connection, list[StoreJob]], None],
        *,
        max_rows: int,
        timeout_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._run_batch = run_batch
        self._max_rows = max_rows
        self._timeout_s = timeout_s
        self._jobs: SimpleQueue[StoreJob | None] = SimpleQueue()
        self._waiting = 0
        self._closed = False
        self._threads = [
            # daemons: an event loop that ends without closing the store must not keep the process alive
            threading.Thread(target=self._process, args=(connection,), name="sqlite", daemon=True)
            for connection in connections
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T], *, rows: int = 1) -> T:
        """The result of `work`, within the time limit; `rows` is about how many rows it writes."""
        if self._closed or self._waiting >= MAX_WAITING:
            raise Unavailable("store", "it is closed" if self._closed else f"{self._waiting} calls are waiting already")
        job = StoreJob(work, rows, self._loop.create_future())
        self._waiting += 1
        self._jobs.put(job)
        # `asyncio.timeout` took a fifth of the time of a short read
        timer = self._loop.call_later(self._timeout_s, self._expire, job.future)
        try:
            result: T = await job.future
        finally:
            timer.cancel()
            job.future.cancel()  # of a caller that was cancelled before
        return result

    def _expire(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(Unavailable("store", f"no answer within {self._timeout_s:g} s"))

    async def close(self) -> None:
        """Run the waiting jobs, then end the threads."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            # a process that is stopped while it holds the lock must not keep this one from ending
            await asyncio.to_thread(thread.join, CLOSE_LIMIT_S)

    def _process(self, connection: sqlite3.Connection) -> None:
        with closing(connection):
            while (first := self._jobs.get()) is not None:
                batch, is_last = self._batch(first)
                self._run_batch(connection, [job for job in batch if not _is_abandoned(job)])
                with suppress(RuntimeError):  # the event loop ended without closing the store: no caller waits
                    self._loop.call_soon_threadsafe(self._set_results, batch)
                if is_last:
                    break

    def _batch(self, first: StoreJob) -> tuple[list[StoreJob], bool]:
        batch, rows = [first], first.rows
        while rows < self._max_rows:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
            rows += job.rows
        return batch, False

    def _set_results(self, batch: list[StoreJob]) -> None:
        for job in batch:
            self._waiting -= 1
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)


def run_reads(connection: sqlite3.Connection, jobs: list[StoreJob]) -> None:
    """Run reads, one statement each."""
    for job in jobs:
        connection.set_progress_handler(partial(_is_abandoned, job), PROGRESS_STEPS)
        try:
            _run(connection, job)
        except sqlite3.Error as error:
            job.error = unavailable(error)
    connection.set_progress_handler(None, 0)


def commit_writes(connection: sqlite3.Connection, jobs: list[StoreJob], *, lock: WriteLock) -> None:
    """Run writes in one transaction, while no other process writes."""
    with lock.held():
        _commit(connection, jobs)


def _commit(connection: sqlite3.Connection, jobs: list[StoreJob]) -> None:
    """A failed write does not affect the others: a failed statement undoes itself."""
    try:
        if not _begin(connection, jobs):
            return
        for job in jobs:
            _run(connection, job)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            if connection.in_transaction:  # some errors have rolled back already (sqlite.org/lang_transaction, 3.45)
                connection.execute("ROLLBACK")
        for job in jobs:
            job.error = unavailable(error)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process has the lock; an extended code holds the primary code in its low byte."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def is_transient(error: sqlite3.Error) -> bool:
    """Whether the file may be opened later without a change by an operator: it is locked, or its disk is full."""
    return error.sqlite_errorcode & 0xFF in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PROTOCOL,
    }


def unavailable(error: sqlite3.Error) -> Unavailable:
    """SQLite's error as `Unavailable`: the file is full, locked, damaged, read-only or gone, or the call was cut."""
    found = Unavailable("store", getattr(error, "sqlite_errorname", type(error).__name__))
    found.__cause__ = error
    return found


def _begin(connection: sqlite3.Connection, jobs: list[StoreJob]) -> bool:
    """Lock the file; False if all callers have timed out before."""
    while not all(map(_is_abandoned, jobs)):
        try:
            connection.execute("BEGIN IMMEDIATE")
            return True
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
        # SQLite's own waits grow to 100 ms: of four processes that write without a pause, one waited for 2 s
        time.sleep(random.uniform(0.0005, 0.002))
    return False


def _run(connection: sqlite3.Connection, job: StoreJob) -> None:
    try:
        job.result = job.work(connection)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - top of the thread's work: the caller gets the error, the thread continues
        job.error = error


def _is_abandoned(job: StoreJob) -> bool:
    return job.future.done()  # its caller was cancelled, or has timed out: it has no result before the batch ends
