"""The threads in which SQLite is spoken to: jobs of coroutines go in, their futures are settled on the loop.

    coroutine ── run ──▶ queue ──▶ thread with a connection of its own ──▶ future

One lane of one thread writes: whatever waits is committed together, and nobody hears of a success before that. So a
hundred writers share one fsync. A lane of a few threads reads. A caller that gives up, by its time limit or because it
was cancelled, takes its job out of the queue if it has not begun; a read is broken off, a write begun goes through.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from common.domain.errors import Unavailable

T = TypeVar("T")

MAX_WAITING: Final = 10_000  # jobs of a lane; beyond it callers are refused at once (a second's worth of writes)
MAX_ROWS: Final = 200  # of one transaction, but for a single larger job: about 20 ms, so other processes get their turn
PROGRESS_STEPS: Final = 20_000  # of SQLite's machine between two looks whether a reader still waits: about 1 ms


@dataclass(slots=True, eq=False)
class StoreJob:
    work: Callable[[sqlite3.Connection], Any]
    rows: int
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class SqliteExecutor:
    """A queue of jobs and the threads that work it off; `run_batch` does a batch and notes the outcome in each job.

    A thread owns its connection, and closes it at its end.
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
            # daemons: a loop that dies without closing the store must not keep the process alive
            threading.Thread(target=self._work_off, args=(connection,), name="sqlite", daemon=True)
            for connection in connections
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T], *, rows: int = 1) -> T:
        """What `work` returns or raises, in time. `rows` says how many it will write, about."""
        if self._closed or self._waiting >= MAX_WAITING:
            raise Unavailable("store", "it is closed" if self._closed else f"{self._waiting} calls wait already")
        job = StoreJob(work, rows, self._loop.create_future())
        self._waiting += 1
        self._jobs.put(job)
        try:
            async with asyncio.timeout(self._timeout_s):
                result: T = await job.future
                return result
        except TimeoutError:
            raise Unavailable("store", f"no answer within {self._timeout_s:g} s") from None

    async def close(self) -> None:
        """Do what still waits, then end the threads."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _work_off(self, connection: sqlite3.Connection) -> None:
        with closing(connection):
            while (first := self._jobs.get()) is not None:
                batch, is_last = self._batch(first)
                self._run_batch(connection, [job for job in batch if not _is_abandoned(job)])
                with suppress(RuntimeError):  # the loop has died without closing the store: nobody waits any more
                    self._loop.call_soon_threadsafe(self._settle, batch)
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

    def _settle(self, batch: list[StoreJob]) -> None:
        for job in batch:
            self._waiting -= 1
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)


def run_reads(connection: sqlite3.Connection, jobs: list[StoreJob]) -> None:
    """Serve readers, one statement each."""
    for job in jobs:
        connection.set_progress_handler(partial(_is_abandoned, job), PROGRESS_STEPS)
        try:
            _attempt(connection, job)
        except sqlite3.Error as error:
            job.error = unavailable(error)
    connection.set_progress_handler(None, 0)


def commit_writes(connection: sqlite3.Connection, jobs: list[StoreJob]) -> None:
    """Serve writers in one transaction. One that is refused spoils nobody's: a statement that fails undoes itself."""
    try:
        if not _begin(connection, jobs):
            return
        for job in jobs:
            _attempt(connection, job)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with suppress(sqlite3.Error):
            if connection.in_transaction:  # some errors have rolled back already (sqlite.org/lang_transaction, 3.45)
                connection.execute("ROLLBACK")
        for job in jobs:
            job.error = unavailable(error)


def is_busy(error: sqlite3.Error) -> bool:
    """Another process has the lock; extended codes hold the primary one in their low byte."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def unavailable(error: sqlite3.Error) -> Unavailable:
    """SQLite's own error as ours: full, locked, damaged, read-only, gone, or broken off."""
    found = Unavailable("store", getattr(error, "sqlite_errorname", type(error).__name__))
    found.__cause__ = error
    return found


def _begin(connection: sqlite3.Connection, jobs: list[StoreJob]) -> bool:
    """Take the lock of the file; False once all callers have given up, which their time limit sees to."""
    while not all(map(_is_abandoned, jobs)):
        try:
            connection.execute("BEGIN IMMEDIATE")
            return True
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
        # SQLite's own waits grow to 100 ms: of four processes that write without a pause one then waited for 2 s
        time.sleep(random.uniform(0.0005, 0.002))
    return False


def _attempt(connection: sqlite3.Connection, job: StoreJob) -> None:
    try:
        job.result = job.work(connection)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - top of the thread's work: its caller gets it, the thread goes on
        job.error = error


def _is_abandoned(job: StoreJob) -> bool:
    return job.future.cancelled()
