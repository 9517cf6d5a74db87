"""The media store in plain files below one folder.

    put:  .<name>.<random>.part ──fsync──▶ <name> ──fsync of the folder──▶ done

A visible file is complete, and a confirmed write survives a loss of power. An interrupted write leaves its `.part`
file; `walk` lists it under a key that only `remove` accepts. Every access to the disk runs in a thread.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from common.domain.errors import Invalid, Misconfigured, Unavailable
from common.media.port import StoredFile
from common.runtime.clock import whole_ms
from common.runtime.uncancelled import run_to_end

T = TypeVar("T")

FOLDERS: Final = ("generated_images", "thumbnails")
THREADS: Final = 4
AT_ONCE: Final = 2  # threads that remove, so that the others can still write and read
PAGE: Final = 1000  # files in one list of `walk`, and in one step of `remove`

_NAME: Final = r"[0-9a-f-]{36}(?:-[0-9]{1,9})?\.(?:png|jpg|webp)"
_KEY: Final = re.compile(rf"(?:{'|'.join(FOLDERS)})/[0-9]{{4}}/[0-9]{{2}}/{_NAME}")
_LEFTOVER: Final = re.compile(rf"(?:{'|'.join(FOLDERS)})/[0-9]{{4}}/[0-9]{{2}}/\.{_NAME}\.[0-9a-f]{{16}}\.part")


class FileMedia:
    """Opened by `open`; the contract of the methods is in `common/media/port.py`."""

    def __init__(self, root: Path, threads: ThreadPoolExecutor) -> None:
        self._root = root
        self._threads = threads

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path) -> AsyncIterator[FileMedia]:
        """Create the folder if it is missing.

        Raises:
            Misconfigured: it cannot be created or written.
        """
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="media")
        try:
            media = cls(await asyncio.to_thread(_writable, root), threads)
            yield media
        finally:
            await asyncio.to_thread(threads.shutdown)

    async def put(self, key: str, content: bytes) -> None:
        file = self._file(key)
        # the thread of a cancelled call would continue, and rename its file after the caller has removed it
        await run_to_end(self._run(lambda: self._put(file, content)))

    async def get(self, key: str) -> bytes | None:
        file = self._file(key)
        return await self._run(lambda: self._get(file))

    def path(self, key: str) -> Path | None:
        if _KEY.fullmatch(key) is None:
            return None
        file = self._root / key
        return file if _is_plain(file) else None  # takes a few microseconds: not worth a thread

    async def exists(self, keys: Collection[str]) -> set[str]:
        return await self._run(lambda: self._exists(keys))

    async def remove(self, keys: Collection[str]) -> int:
        files = [self._text(key) for key in keys]
        turn = asyncio.Semaphore(AT_ONCE)

        async def remove(some: list[str]) -> int:
            async with turn:
                return await self._run(lambda: self._remove(some))

        pages = [files[start : start + PAGE] for start in range(0, len(files), PAGE)]
        removed = 0
        for outcome in await asyncio.gather(*map(remove, pages), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            removed += outcome
        return removed

    async def walk(self) -> AsyncIterator[list[StoredFile]]:
        found = self._walk()
        while page := await self._run(lambda: list(islice(found, PAGE))):
            yield page

    async def check(self) -> None:
        await self._run(lambda: _write_something(self._root))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise Unavailable("media", error.strerror or type(error).__name__) from error

    def _file(self, key: str) -> Path:
        """The path of a key. Keys are made from records only; this check is a second line of defence.

        Raises:
            Invalid: the key is malformed.
        """
        if _KEY.fullmatch(key):
            return self._root / key
        raise _invalid(key)

    def _text(self, key: str) -> str:
        """The path of a key or a leftover, as text: for the 200,000 files of a purge, a Path costs a third of the time.

        Raises:
            Invalid: the key is malformed.
        """
        if _KEY.fullmatch(key) or _LEFTOVER.fullmatch(key):
            return f"{self._root}/{key}"
        raise _invalid(key)

    def _put(self, file: Path, content: bytes) -> None:
        _require_plain(file.parent)
        try:
            _write(file, content)
        except FileNotFoundError:  # the first file of its month
            self._make_folder(file.parent)
            _write(file, content)
        _sync_folder(file.parent)

    def _get(self, file: Path) -> bytes | None:
        try:
            _require_plain(file.parent)
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as reading:
            return reading.read()

    def _exists(self, keys: Collection[str]) -> set[str]:
        there = {key for key in keys if _KEY.fullmatch(key) and _is_file(self._root / key)}
        if not there:
            self._root.stat()  # raises if the disk is not mounted, which must not look like lost files
        return there

    def _remove(self, files: list[str]) -> int:
        removed = 0
        folders = {Path(name) for name in {file.rpartition("/")[0] for file in files}}
        for folder in folders:
            _require_plain(folder)
        for file in files:
            try:
                os.unlink(file)  # noqa: PTH108 - text, see `_text`
                removed += 1
            except FileNotFoundError:
                continue
        for folder in folders:
            with suppress(FileNotFoundError):
                _sync_folder(folder)
        return removed

    def _walk(self) -> Iterator[StoredFile]:
        with os.scandir(self._root):
            pass  # raises if the root is missing
        for name in FOLDERS:
            for year in _entries(self._root / name):
                for month in _entries(Path(year.path)):
                    for entry in _entries(Path(month.path)):
                        key = f"{name}/{year.name}/{month.name}/{entry.name}"
                        if _KEY.fullmatch(key) or _LEFTOVER.fullmatch(key):
                            yield from _stored(key, entry)

    def _make_folder(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if each.is_relative_to(self._root) and not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in missing:
            _sync_folder(each.parent)


def _invalid(key: str) -> Invalid:
    return Invalid(f"malformed media key: {key[:100]!r}", code="invalid_key")


def _writable(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        _write_something(root)
    except OSError as error:
        raise Misconfigured(f"MEDIA_ROOT: {root} cannot be written: {error.strerror}", code="bad_setting") from error
    return root.resolve()


def _write(file: Path, content: bytes) -> None:
    """Write a temporary file, then rename it: a reader sees all of it or none."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_something(root: Path) -> None:
    with tempfile.TemporaryFile(dir=root) as file:  # has no name, so it leaves nothing behind
        file.write(b"darkroom")
        file.flush()


def _sync_folder(folder: Path) -> None:
    """Make the names in the folder durable, which the fsync of a file does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_plain(folder: Path) -> None:
    if not _is_plain(folder):
        raise OSError(None, f"{folder} contains a symbolic link")


def _is_plain(path: Path) -> bool:
    """Whether no part of the path is a symbolic link, which could lead out of the root; the file may be missing."""
    return os.path.realpath(path) == str(path)


def _is_file(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder without symbolic links; empty if the folder was removed meanwhile."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_symlink():
                yield entry


def _stored(key: str, entry: os.DirEntry[str]) -> Iterator[StoredFile]:
    with suppress(FileNotFoundError):
        found = entry.stat(follow_symlinks=False)
        changed_at = whole_ms(datetime.fromtimestamp(found.st_mtime, UTC))
        if stat.S_ISREG(found.st_mode):
            yield StoredFile(key=key, size=found.st_size, changed_at=changed_at)
