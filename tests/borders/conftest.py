"""Fixtures of the tests of the borders."""

import sqlite3
from collections.abc import Callable
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
