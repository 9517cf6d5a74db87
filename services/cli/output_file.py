"""The file that a command writes when its work is done. That it can be written is known before the work begins."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from darkroom_client.pictures import FORMATS, PictureFormat
from services.cli.console import USAGE_ERROR, CommandFailed

STDOUT: Final = Path("-")


def parse(text: str | None) -> Path | None:
    """The path of the option `-o`; `-` is stdout, None is a name in the working directory.

    Raises:
        CommandFailed: the extension is that of another format, or stdout is a terminal.
    """
    if text is None:
        return None
    path = Path(text)
    if not text or "\0" in text:
        raise CommandFailed("-o: must be the name of a file", status=USAGE_ERROR)
    if path == STDOUT and sys.stdout.isatty():
        raise CommandFailed("-o -: a terminal cannot show a picture; redirect stdout", status=USAGE_ERROR)
    if path.suffix[1:].isalpha() and path.suffix.lower() not in FORMATS:
        raise CommandFailed(f"-o: {path.suffix} is not supported; use .png, .jpg or .webp", status=USAGE_ERROR)
    return path


def format_of(path: Path | None) -> PictureFormat | None:
    """The format that the extension of the file names; None if it names none."""
    return FORMATS.get(path.suffix.lower()) if path is not None else None


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
        elif path == STDOUT:
            pass
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
        CommandFailed: the disk is full, the folder is gone, or the reader of stdout has ended.
    """
    try:
        if path == STDOUT:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            path.write_bytes(content)
    except OSError as error:
        what = "stdout" if path == STDOUT else path
        raise CommandFailed(f"cannot write {what}: {error.strerror}") from error
