"""The rules for what comes from outside: the test files marked with a rule, the files that docs/borders.md lists.

`python -m tests.border_rules` writes the files that are marked into the table.
"""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "borders.md"
ROW = re.compile(r"^\| ([A-D]\d+) \|(.*)\|([^|]*)\|$", re.MULTILINE)  # rule, text, files


@cache
def marked_files() -> dict[str, set[str]]:
    """The test files that hold a test marked `@pytest.mark.border(rule="A4")`, by rule."""
    files: defaultdict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.border":
                for rule in (*node.args, *(keyword.value for keyword in node.keywords)):
                    files[ast.literal_eval(rule)].add(str(path.relative_to(ROOT)))
    return dict(files)


def documented_files() -> dict[str, set[str]]:
    """The test files that the table names, by rule."""
    return {rule: set(re.findall(r"`(tests/[\w/]+\.py)`", cell)) for rule, _, cell in ROW.findall(DOCUMENT.read_text())}


def _write_table() -> None:
    marked = marked_files()

    def row(found: re.Match[str]) -> str:
        files = ", ".join(f"`{file}`" for file in sorted(marked.get(found[1], set())))
        return f"| {found[1]} |{found[2]}| {files or 'none yet'} |"

    DOCUMENT.write_text(ROW.sub(row, DOCUMENT.read_text()))


if __name__ == "__main__":
    _write_table()
