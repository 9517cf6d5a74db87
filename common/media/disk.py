"""Files and folders below the media root: durable writes that no symbolic link can lead outside.

A folder with a symbolic link in its path is refused with an OSError that names it.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from common.media import keys
from common.media.port import FileVersion, StoredFile
from common.runtime.clock import whole_ms

MARKER: Final = ".darkroom-store"  # in the root; not a key, so nothing lists or removes it
CHECKPOINT: Final = ".darkroom-checkpoint"  # beside it
MAX_MARKER_BYTES: Final = 200
ABANDONED_S: Final = 60.0  # a temporary file of a note is then of a process that was killed


def write_file(file: Path, content: bytes) -> None:
    """Write a temporary file, then rename it: a reader sees all of it or none."""
    part = part_of(file)
    try:
        _write_durably(part, content)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _write_durably(file: Path, content: bytes) -> None:
    with file.open("xb") as writing:
        writing.write(content)
        writing.flush()
        os.fsync(writing.fileno())


def part_of(file: Path) -> Path:
    """A new name for the temporary file of this file."""
    return file.with_name(keys.leftover(file.name, secrets.token_hex(8)))


def make_folder(folder: Path, root: Path) -> None:
    """Make the folder and the missing ones above it, durably; the root itself must exist.

    A root that is missing is a disk that is not mounted: a folder made in its place would hide the mount.
    """
    root.stat()
    missing = [each for each in (folder, *folder.parents) if each.is_relative_to(root) and not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable, which the fsync of a file does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def probe(folder: Path, root: Path) -> None:
    """Do in this folder all that a write and a removal do."""
    require_plain(folder)
    make_folder(folder, root)
    # both have the names of temporary files: what a killed process leaves here is swept like any other
    first, second = (folder / keys.probe(secrets.token_hex(8)) for _ in range(2))
    try:
        _write_durably(first, b"darkroom")
        first.replace(second)
        sync_folder(folder)
    finally:
        for each in (first, second):
            each.unlink(missing_ok=True)


@contextmanager
def reading(file: Path) -> Iterator[BinaryIO]:
    """The open file. Raises FileNotFoundError if there is none."""
    require_plain(file.parent)
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as opened:
        yield opened


def version_of(opened: BinaryIO) -> FileVersion:
    found = os.fstat(opened.fileno())
    return FileVersion(found.st_size, f"{found.st_mtime_ns:x}-{found.st_size:x}", _time(found.st_mtime))


def read_note(root: Path, name: str) -> str | None:
    """The text of the marker or the checkpoint in the root; None if there is none."""
    try:
        with (root / name).open("rb") as file:
            return file.read(MAX_MARKER_BYTES).decode("ascii", "replace").strip() or None
    except FileNotFoundError:
        root.stat()
        return None


def write_note(root: Path, name: str, text: str) -> None:
    write_file(root / name, f"{text}\n".encode("ascii"))
    written_at = (root / name).stat().st_mtime  # by the clock of the file system
    for part in root.glob(f".{name}.*.part"):
        with suppress(OSError):
            if written_at - part.stat().st_mtime > ABANDONED_S:
                part.unlink()
    sync_folder(root)


def require_plain(folder: Path) -> None:
    if not is_plain(folder):
        link = next((each for each in (folder, *folder.parents) if each.is_symlink()), folder)
        raise OSError(None, f"{link} is a symbolic link")


def is_plain(path: Path) -> bool:
    """Whether no part of the path is a symbolic link, which could lead out of the root; the file may be missing."""
    return os.path.realpath(path) == str(path)


def is_file(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder without symbolic links; empty if the folder was removed meanwhile."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as found:
        for entry in found:
            if not entry.is_symlink():
                yield entry


def stored(key: str, entry: os.DirEntry[str]) -> Iterator[StoredFile]:
    """The file of this entry; nothing if it is not a plain file, or was removed meanwhile."""
    with suppress(FileNotFoundError):
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            yield StoredFile(key=key, size=found.st_size, changed_at=_time(found.st_mtime))


def _time(seconds: float) -> datetime:
    """A file of another program may have any date; one beyond Python's dates is far in the future, and so kept."""
    try:
        return whole_ms(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)
