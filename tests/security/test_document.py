"""docs/security.md names tests: each of them is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_document_names_exists():
    text, file, missing = (ROOT / "docs" / "security.md").read_text(), "", []
    for found in re.finditer(r"`(tests/[\w/]+\.py|…)::(\w+)`", text):
        file = found[1] if found[1] != "…" else file
        if f"def {found[2]}(" not in (ROOT / file).read_text():
            missing.append(f"{file}::{found[2]}")

    assert missing == []
