"""Speed of the janitor's purge and sweep beside bare `os.unlink`, row-by-row deletes, `os.walk`.

Images are files of 4 kB here (100,000 of a real megabyte would fill the disk); unlinking a larger file costs a
little more for every contender alike. The purge does all of its work: marks, files and their folders synced, an event
for each image, tombstones. The event goes to RabbitMQ in one row, and to the bus in memory in the other.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.filled_store import fill_media, fill_store
from benchmarks.measurements import Table, arguments, cpu_s, report_progress, save_results
from common.application.events import EventFactory
from common.application.outbox import Outbox
from common.bus.connect import open_bus
from common.domain.views import ImagePresenter
from common.media.connect import open_media
from common.messages import TickData
from common.runtime.clock import SystemClock
from common.runtime.settings import Settings
from common.store import sqlite as sqlite_store
from common.store.connect import open_store
from services.janitor.context import JanitorContext
from services.janitor.purge import BATCHES_PER_RUN, purge
from services.janitor.sweep import sweep
from tests.servers.rabbitmq import RabbitMQ

UNLINK = "os.unlink of the files, nothing else"
ROW_BY_ROW = "row by row: read, unlink two, delete"
IN_MEMORY = "purge, events in memory"
ON_RABBITMQ = "purge, events on RabbitMQ"


class Transactions:
    """How long the longest write transaction of Darkroom's store in this process takes, from its lock to its commit."""

    def __init__(self) -> None:
        self.longest_ms = 0.0

    @contextmanager
    def watched(self) -> Iterator[Transactions]:
        """Stores opened inside are timed."""
        commit = sqlite_store.commit_writes  # type: ignore[attr-defined] # where it is looked up, not where it is defined

        def timed(connection: sqlite3.Connection, jobs: list[Any], **more: Any) -> None:
            began = time.perf_counter()
            commit(connection, jobs, **more)
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - began) * 1000)

        sqlite_store.commit_writes = timed  # type: ignore[attr-defined]
        try:
            yield self
        finally:
            sqlite_store.commit_writes = commit  # type: ignore[attr-defined]


def prepare(folder: Path, name: str, size: int) -> tuple[Path, list[Path]]:
    path = folder / name
    path.mkdir()
    fill_store(path / "darkroom.db", size)
    files = fill_media(path / "media", path / "darkroom.db")
    os.sync()
    return path, files


def unlink(path: Path, files: list[Path]) -> None:
    for file in files:
        os.unlink(file)  # noqa: PTH108 - the bare call


def row_by_row(path: Path, files: list[Path]) -> None:
    with closing(sqlite3.connect(path / "darkroom.db", timeout=30, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        query = "SELECT id, document ->> '$.image_file', document ->> '$.thumbnail' FROM images"
        for image_id, picture, thumbnail in connection.execute(query).fetchall():
            (path / "media" / picture).unlink()
            (path / "media" / thumbnail).unlink()
            connection.execute("DELETE FROM images WHERE id = ?", (image_id,))


async def with_janitor(path: Path, bus_url: str, work: Callable[[JanitorContext], Any]) -> None:
    settings = Settings(store_url=f"sqlite:///{path}/darkroom.db", media_root=str(path / "media"), bus_url=bus_url)
    clock = SystemClock()
    async with (
        open_store(settings.store_url, timeout_s=30) as store,
        open_media(settings.media_root) as media,
        open_bus(settings, name="janitor", clock=clock) as bus,
    ):
        presenter = ImagePresenter("/media/", settings.retention)
        outbox = Outbox(bus, store, clock, EventFactory("janitor", clock, presenter))
        await work(JanitorContext(bus=bus, store=store, media=media, outbox=outbox, settings=settings, clock=clock))


async def purge_all(context: JanitorContext) -> None:
    """Slice after slice, as its ticks would do."""
    data = TickData(older_than=1)
    while await context.store.count_purgeable(context.clock.now()):
        await purge(data, context=context)


async def purges(folder: Path, broker: RabbitMQ, *, size: int, rounds: int) -> Table:
    columns = ("seconds", "images/s", "speed over unlink", "CPU s", "longest write transaction, ms")
    table = Table(f"Purge: {size:,} images, {2 * size:,} files", columns, head="how")
    for number in range(rounds):
        spent: dict[str, float] = {}
        for name in (UNLINK, ROW_BY_ROW, IN_MEMORY, ON_RABBITMQ):
            path, files = await asyncio.to_thread(prepare, folder, f"purge-{number}-{len(spent)}", size)
            gc.collect()
            gc.freeze()  # the names of all files are held here, and not by a janitor: looking through them takes 100 ms
            cpu, began = cpu_s([os.getpid()]), time.perf_counter()
            longest_ms = None
            if name == UNLINK:
                await asyncio.to_thread(unlink, path, files)
            elif name == ROW_BY_ROW:
                await asyncio.to_thread(row_by_row, path, files)
            else:
                bus_url = "memory://" if name == IN_MEMORY else broker.fresh_vhost()
                with Transactions().watched() as transactions:
                    await with_janitor(path, bus_url, purge_all)
                longest_ms = transactions.longest_ms
            spent[name] = time.perf_counter() - began
            left = sum(len(found) for _, _, found in os.walk(path / "media"))
            if left:
                raise RuntimeError(f"{name} left {left} files")
            row: dict[str, float] = {
                "seconds": spent[name],
                "images/s": size / spent[name],
                "speed over unlink": spent[UNLINK] / spent[name],
                "CPU s": cpu_s([os.getpid()]) - cpu,
            }
            if longest_ms is not None:
                row["longest write transaction, ms"] = longest_ms
            table.add(name, **row)
            report_progress(f"round {number + 1}: {name}, {spent[name]:.1f} s")
    return table


async def sweeps(folder: Path, *, size: int, rounds: int) -> Table:
    """So many files, half as many records, all in order: the usual case."""
    table = Table(f"Sweep: {size:,} files", ("seconds", "files/s"), head="how")
    path, _ = await asyncio.to_thread(prepare, folder, "sweep", size // 2)

    async def run(context: JanitorContext) -> None:
        await sweep(TickData(), context=context)

    for number in range(rounds):
        began = time.perf_counter()
        found = sum(1 for _, _, names in os.walk(path / "media") for name in names)
        walked = time.perf_counter() - began
        table.add("os.walk, nothing else", **{"seconds": walked, "files/s": found / walked})
        began = time.perf_counter()
        await with_janitor(path, "memory://", run)
        took = time.perf_counter() - began
        table.add("sweep", **{"seconds": took, "files/s": found / took})
        report_progress(f"round {number + 1}: sweep, {took:.1f} s")
    return table


async def main(size: int, rounds: int) -> None:
    with servers.folder() as folder, servers.broker() as broker:
        tables = [
            await purges(folder, broker, size=size, rounds=rounds),
            await sweeps(folder, size=size, rounds=rounds),
        ]
    save_results("purge", tables, size=size, rounds=rounds, batch=Settings().purge_batch, slice=BATCHES_PER_RUN)


if __name__ == "__main__":
    chosen = arguments(__doc__ or "", size=100_000, rounds=1)
    asyncio.run(main(chosen.size, chosen.rounds))
