"""The file that a command writes when its work is done. That it can be written is known before the work begins."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.cli.console import CommandFailed


@contextmanager
def reserved(path: Path | None) -> Iterator[None]:
    """Hold the name of the file; one that was not there before is removed again if nothing is written.

    Without a path, the file will get a name in the working directory.

    Raises:
        CommandFailed: it cannot be written.
    """
    is_new = False
    try:
        if path is None:
            tempfile.TemporaryFile(dir=".").close()
        elif path.is_file() or not path.exists():  # a pipe or a device is not opened twice
            is_new = not path.exists()
            path.open("ab").close()
        elif path.is_dir():
            raise CommandFailed(f"cannot write {path}: it is a folder")
    except OSError as error:
        raise CommandFailed(f"cannot write {path or Path.cwd()}: {error.strerror}") from error
    try:
        yield
    finally:
        if path is not None and is_new and path.is_file() and not path.stat().st_size:
            path.unlink()


def write(path: Path, content: bytes) -> None:
    """Write the whole file.

    Raises:
        CommandFailed: the disk is full, or the folder is gone.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from error
