"""docs/reliability.md names every row of the fault list up to 55, and tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()


def test_every_row_is_named_once():
    assert re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE) == [str(row) for row in range(1, 56)]


def test_every_test_that_the_document_names_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)

    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]

    assert missing == []
    assert len(named) > 50
