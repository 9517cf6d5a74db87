"""Rows of the fault list: the test files marked with a row, the files that a document lists."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \|.*\|([^|]*)\|$", re.MULTILINE)  # number, case, files


def marked_files() -> dict[int, set[str]]:
    """The test files that hold a test marked `@pytest.mark.fault(row=...)`, by row."""
    files: defaultdict[int, set[str]] = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                row = ast.literal_eval(node.keywords[0].value)
                files[row].add(str(path.relative_to(ROOT)))
    return dict(files)


def documented_files(document: str) -> dict[int, set[str]]:
    """The test files that the table of a document names, by row."""
    text = (ROOT / "docs" / document).read_text()
    return {int(row): set(re.findall(r"`(tests/[\w/]+\.py)`", cell)) for row, cell in ROW.findall(text)}


def missing_tests(document: str) -> list[str]:
    """`file::test` names in a document that do not exist; `…` means the file before it."""
    text, file, missing = (ROOT / "docs" / document).read_text(), "", []
    for found in re.finditer(r"`(tests/[\w/]+\.py|…)::(\w+)`", text):
        file = found[1] if found[1] != "…" else file
        path = ROOT / file
        if not path.exists() or f"def {found[2]}(" not in path.read_text():
            missing.append(f"{file}::{found[2]}")
    return missing
