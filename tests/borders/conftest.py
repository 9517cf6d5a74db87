"""Fixtures of the tests of the borders."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture
def newer_version() -> Callable[[Path, str], None]:
    """Rewrites a record of a SQLite store as a version would that has one status more."""

    def rewrite(path: Path, image_id: str, field: str = "$.format", value: str = "avif") -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            changed = connection.execute(
                "UPDATE images SET document = json_set(document, ?, ?) WHERE id = ?", (field, value, image_id)
            )
            assert changed.rowcount == 1

    return rewrite


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; those of `tmp_path` are the tester's alone."""
    with tempfile.TemporaryDirectory(prefix="darkroom-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder
