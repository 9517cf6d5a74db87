"""Rules of the code base that import-linter cannot check: who reads the time, the environment, SQLite, Pillow."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import modules, nodes, parsed

READS_TIME = {"time.time", "time.monotonic", "time.perf_counter", "datetime.now", "datetime.utcnow", "loop.time"}
READS_ENVIRONMENT = {"os.environ", "os.getenv", "environ", "getenv"}


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute or name; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return ""


def uses_of(names: set[str], *, allowed: set[str]) -> list[str]:
    """Places that use one of the names, outside the modules that may."""
    return [
        f"{module}:{node.lineno} {dotted(node)}"
        for module, node in nodes()
        if isinstance(node, ast.Attribute | ast.Name)
        and any(dotted(node) == name or dotted(node).endswith(f".{name}") for name in names)
        and str(module) not in allowed
    ]


def imports() -> Iterator[tuple[str, str]]:
    """Each module with the name of each module that it imports."""
    for module, node in nodes():
        if isinstance(node, ast.Import):
            yield from ((str(module), alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(module), node.module or ""


def importers_of(package: str) -> set[str]:
    return {module for module, name in imports() if name.partition(".")[0] == package}


def test_the_time_is_read_by_the_clock_only():
    assert uses_of(READS_TIME, allowed={"common/runtime/clock.py"}) == []


def test_the_environment_is_read_by_the_settings_only():
    assert uses_of(READS_ENVIRONMENT, allowed={"common/runtime/reading_settings.py"}) == []


def test_sqlite_is_imported_by_its_adapter_only():
    users = importers_of("sqlite3")

    assert users
    assert [path for path in users if not path.startswith("common/store/sqlite")] == []


def test_opentelemetry_is_loaded_only_if_traces_are_on():
    """It is an extra: only its adapter imports it, and the adapter is imported inside a function."""
    adapter = "common.runtime.tracing.otel"

    assert importers_of("opentelemetry") == {"common/runtime/tracing/otel.py"}
    assert {module for module, name in imports() if name == adapter} == {"common/runtime/tracing/connect.py"}
    at_the_top = parsed(Path("common/runtime/tracing/connect.py")).body
    assert adapter not in {node.module for node in at_the_top if isinstance(node, ast.ImportFrom)}


def test_pillow_is_imported_where_images_are_made_only():
    makers = (
        "services/api/conversion",
        "services/generator/pictures",
        "services/generator/thumbnails",
        "services/diffusers_engine/",
        "services/inference/paint",
    )

    assert [path for path in importers_of("PIL") if not path.startswith(makers)] == []


def test_nothing_is_called_utils():
    assert [path for path in modules() if path.stem in {"utils", "util", "helpers", "misc"}] == []


def test_a_package_holds_a_sentence_and_no_reexports():
    packages = [path for path in modules() if path.name == "__init__.py"]

    assert [path for path in packages if [type(node) for node in parsed(path).body] != [ast.Expr]] == []
