"""The job that every contender does: fetch, check, thumbnail, two durable files, one row.

Image and files are handled by the same code as in Darkroom, so only the surroundings differ: no events, no claims, no
lease, no retries. It runs in the environment of the peers, where Darkroom's services are not installed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import urllib.request
from pathlib import Path

from services.generator.pictures import CheckedPicture, check

THUMBNAIL_SIZE = 256
MAX_PIXELS = 16_777_216
AT_ONCE = 4  # concurrent images over all workers: two for each of two cores, as in Darkroom's two generators

_local = threading.local()


def keep(content: bytes, folder: Path, name: str) -> CheckedPicture:
    """Decode, check, make the thumbnail and write both files durably, with their directory entries."""
    checked = check(content, max_pixels=MAX_PIXELS, thumbnail_size=THUMBNAIL_SIZE, thumbnail_format=None)
    write(folder / "pictures" / name, content)
    write(folder / "thumbnails" / name, checked.thumbnail)
    return checked


def write(file: Path, content: bytes) -> None:
    part = file.with_name(f".{file.name}.part")
    with part.open("xb") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(writing.fileno())
    part.replace(file)
    descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settings() -> tuple[str, Path]:
    """The stub's URL and the folder to work in."""
    return os.environ["BENCH_STUB"], Path(os.environ["BENCH_FOLDER"])


def prepare(folder: Path) -> None:
    for name in ("pictures", "thumbnails"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "rows.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows (name TEXT PRIMARY KEY, format TEXT, size INTEGER)")


def row(folder: Path, name: str, checked: CheckedPicture, size: int) -> None:
    """Insert one durable row, by a connection of this thread."""
    connection = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = sqlite3.connect(folder / "rows.db", timeout=30, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
    connection.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", (name, checked.format.value, size))


def rows(folder: Path) -> int:
    connection = sqlite3.connect(folder / "rows.db", timeout=30)
    try:
        return int(connection.execute("SELECT count(*) FROM rows").fetchone()[0])
    finally:
        connection.close()


def finish(name: str, content: bytes, folder: Path) -> None:
    """All of the job after the fetch."""
    row(folder, name, keep(content, folder, name), len(content))


def do(name: str) -> None:
    """The whole job, for a worker of threads or processes."""
    stub, folder = settings()
    request = urllib.request.Request(
        f"{stub}/inference/images/generations", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        finish(name, response.read(), folder)
