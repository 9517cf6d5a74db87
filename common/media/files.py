"""The media store in plain files below one folder.

    put:  .<name>.<random>.part ──fsync──▶ <name> ──fsync of the folder──▶ done

A visible file is complete, and a confirmed write survives a loss of power. An interrupted write leaves its `.part`
file; `walk` lists it under a key that only `remove` accepts. A marker file in the root names the store that the
pictures belong to. Every access to the disk runs in a thread.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from common.domain.errors import Misconfigured, Unavailable
from common.media import disk
from common.media.keys import FOLDERS, is_key, is_listed, require_key, require_listed
from common.media.port import FilePart, FileVersion, PublicLink, StoredFile
from common.runtime.clock import Clock, SystemClock
from common.runtime.uncancelled import run_to_end

T = TypeVar("T")

THREADS: Final = 4
AT_ONCE: Final = 2  # threads that remove, so that the others can still write and read
CHECK_AGE_S: Final = 1.0  # a check that succeeded counts this long
PAGE: Final = 1000  # files in one list of `walk`, and in one step of `remove`


class FileMedia:
    """Opened by `open`; the contract of the methods is in `common/media/port.py`."""

    def __init__(self, root: Path, threads: ThreadPoolExecutor, clock: Clock) -> None:
        self._root = root
        self._threads = threads
        self._clock = clock
        self._store_id: str | None = None  # once `mark` was called
        self._checking = asyncio.Lock()
        self._checked_s = float("-inf")

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path, *, clock: Clock | None = None, read_only: bool = False) -> AsyncIterator[FileMedia]:
        """Create the folder if it is missing, and write and remove a file where the pictures of this month go.

        With `read_only` nothing is written or created.

        Raises:
            Misconfigured: it cannot be created or written, or does not exist.
        """
        clock = clock or SystemClock()
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="media")
        try:
            probed_at = None if read_only else clock.now()
            yield cls(await asyncio.to_thread(_prepare, root, probed_at), threads, clock)
        finally:
            await asyncio.to_thread(threads.shutdown)

    async def put(self, key: str, content: bytes) -> None:
        file = self._file(key)
        # the thread of a cancelled call would continue, and rename its file after the caller has removed it
        await run_to_end(self._run(lambda: self._put(file, content)))

    async def get(self, key: str) -> bytes | None:
        file = self._file(key)
        return await self._run(lambda: self._get(file))

    async def version(self, key: str) -> FileVersion | None:
        file = self._file(key)
        return await self._run(lambda: self._version(file))

    async def read(self, key: str, *, start: int, length: int) -> FilePart | None:
        file = self._file(key)
        return await self._run(lambda: self._read(file, start, length))

    async def link(self, key: str) -> PublicLink | None:
        return None

    def path(self, key: str) -> Path | None:
        if not is_key(key):
            return None
        file = self._root / key
        return file if disk.is_plain(file) else None  # takes a few microseconds: not worth a thread

    async def exists(self, keys: Collection[str]) -> set[str]:
        return await self._run(lambda: self._exists(keys))

    async def remove(self, keys: Collection[str]) -> None:
        files = [self._text(key) for key in keys]
        turn = asyncio.Semaphore(AT_ONCE)

        async def remove(some: list[str]) -> None:
            async with turn:
                await self._run(lambda: self._remove(some))

        pages = [files[start : start + PAGE] for start in range(0, len(files), PAGE)]
        for outcome in await asyncio.gather(*map(remove, pages), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def walk(self) -> AsyncIterator[list[StoredFile]]:
        found = self._walk()
        while page := await self._run(lambda: list(islice(found, PAGE))):
            yield page

    async def marker(self) -> str | None:
        return await self._run(lambda: disk.read_note(self._root, disk.MARKER))

    async def mark(self, store_id: str) -> None:
        if await self.marker() != store_id:
            await self._run(lambda: disk.write_note(self._root, disk.MARKER, store_id))
        self._store_id = store_id

    async def checkpoint(self) -> int | None:
        text = await self._run(lambda: disk.read_note(self._root, disk.CHECKPOINT)) or ""
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else None

    async def set_checkpoint(self, number: int) -> None:
        await self._run(lambda: disk.write_note(self._root, disk.CHECKPOINT, str(number)))

    async def check(self) -> None:
        async with self._checking:  # one at a time: a check waits for the disk, and anyone may ask for one
            if self._clock.monotonic() - self._checked_s >= CHECK_AGE_S:
                await self._run(self._check)
                self._checked_s = self._clock.monotonic()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise Unavailable("media", _reason(error)) from error

    def _check(self) -> None:
        if self._store_id is not None and disk.read_note(self._root, disk.MARKER) != self._store_id:
            raise OSError(None, f"{self._root} does not hold the marker of this store: is the folder mounted?")
        _probe(self._root, self._clock.now())

    def _file(self, key: str) -> Path:
        return self._root / require_key(key)

    def _text(self, key: str) -> str:
        """The path of a key or a leftover, as text: for the 200,000 files of a purge, a Path costs a third of the time.

        Raises:
            Invalid: the key is malformed.
        """
        return f"{self._root}/{require_listed(key)}"

    def _put(self, file: Path, content: bytes) -> None:
        disk.require_plain(file.parent)
        try:
            disk.write_file(file, content)
        except FileNotFoundError:  # the first file of its month
            disk.make_folder(file.parent, self._root)
            disk.write_file(file, content)
        disk.sync_folder(file.parent)

    def _get(self, file: Path) -> bytes | None:
        with suppress(FileNotFoundError), disk.reading(file) as opened:
            return opened.read()
        return None

    def _version(self, file: Path) -> FileVersion | None:
        with suppress(FileNotFoundError), disk.reading(file) as opened:
            return disk.version_of(opened)
        return None

    def _read(self, file: Path, start: int, length: int) -> FilePart | None:
        with suppress(FileNotFoundError), disk.reading(file) as opened:
            opened.seek(start)
            return FilePart(opened.read(length), disk.version_of(opened))
        return None

    def _exists(self, keys: Collection[str]) -> set[str]:
        there = {key for key in keys if is_key(key) and disk.is_file(self._root / key)}
        if not there:
            self._root.stat()  # raises if the disk is not mounted, which must not look like lost files
        return there

    def _remove(self, files: list[str]) -> None:
        folders = {Path(name) for name in {file.rpartition("/")[0] for file in files}}
        for folder in folders:
            disk.require_plain(folder)
        for file in files:
            with suppress(FileNotFoundError):
                os.unlink(file)  # noqa: PTH108 - text, see `_text`
        for folder in folders:
            with suppress(FileNotFoundError):
                disk.sync_folder(folder)

    def _walk(self) -> Iterator[StoredFile]:
        with os.scandir(self._root):
            pass  # raises if the root is missing
        for name in FOLDERS:
            for year in disk.entries(self._root / name):
                for month in disk.entries(Path(year.path)):
                    for entry in disk.entries(Path(month.path)):
                        key = f"{name}/{year.name}/{month.name}/{entry.name}"
                        if is_listed(key):
                            yield from disk.stored(key, entry)


def _prepare(root: Path, now: datetime | None) -> Path:
    """Create the root if it is missing, and try it out, unless `now` is None; returns it without symbolic links."""
    try:
        if now is not None:
            root.mkdir(parents=True, exist_ok=True)
        root = root.resolve()
        if now is None:
            os.scandir(root).close()
        else:
            _probe(root, now)
    except OSError as error:
        named, what = error.filename or root, "read" if now is None else "written"
        raise Misconfigured(f"MEDIA_ROOT: {named} cannot be {what}: {_reason(error)}", code="bad_setting") from error
    return root


def _probe(root: Path, now: datetime) -> None:
    """Write and remove a file in each folder that the pictures of this month go to."""
    for name in FOLDERS:
        disk.probe(root / name / f"{now:%Y/%m}", root)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
