"""Rules of the house that import-linter cannot see: read from the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "common").rglob("*.py"), *(ROOT / "services").rglob("*.py")])
READS_TIME = {"time.time", "time.monotonic", "time.perf_counter", "datetime.now", "datetime.utcnow", "loop.time"}
READS_ENVIRONMENT = {"os.environ", "os.getenv", "environ", "getenv"}


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute or name; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return ""


def where(names: set[str], *, but: set[str]) -> list[str]:
    """Places that mention one of the names, outside the modules that may."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno} {dotted(node)}"
        for path, node in nodes()
        if isinstance(node, ast.Attribute | ast.Name)
        and any(dotted(node) == name or dotted(node).endswith(f".{name}") for name in names)
        and str(path.relative_to(ROOT)) not in but
    ]


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            yield path, node


def imports() -> Iterator[tuple[str, str]]:
    for path, node in nodes():
        if isinstance(node, ast.Import):
            yield from ((str(path.relative_to(ROOT)), alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(path.relative_to(ROOT)), node.module or ""


def test_the_time_is_read_by_the_clock_only():
    assert where(READS_TIME, but={"common/runtime/clock.py"}) == []


def test_the_environment_is_read_by_the_settings_only():
    assert where(READS_ENVIRONMENT, but={"common/runtime/settings.py"}) == []


def test_sqlite_is_imported_by_its_adapter_only():
    users = {path for path, name in imports() if name.partition(".")[0] == "sqlite3"}

    assert users
    assert all(path.startswith("common/store/sqlite") for path in users), users


def test_pillow_is_imported_where_pictures_are_made_only():
    users = {path for path, name in imports() if name.partition(".")[0] == "PIL"}

    makers = ("services/generator/pictures", "services/generator/thumbnails", "services/inference/paint")
    assert all(path.startswith(makers) for path in users), users


def test_nothing_is_called_utils():
    assert [path for path in SOURCES if path.stem in {"utils", "util", "helpers", "misc"}] == []


def test_a_package_holds_a_sentence_and_no_reexports():
    for path in SOURCES:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            assert [type(node) for node in body] == [ast.Expr], f"{path} holds more than a sentence"
