"""The Python files of the repository, parsed once for all architecture tests."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRODUCT = ("common", "services")
EVERYTHING = (*PRODUCT, "tests", "benchmarks")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(folders: tuple[str, ...] = PRODUCT) -> list[Path]:
    """The modules below these folders, as paths from the root of the repository."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def parsed(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def nodes(folders: tuple[str, ...] = PRODUCT) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of every module below these folders."""
    for module in modules(folders):
        for node in ast.walk(parsed(module)):
            yield module, node


def functions(folders: tuple[str, ...] = PRODUCT) -> Iterator[tuple[Path, Function]]:
    for module, node in nodes(folders):
        if isinstance(node, Function):
            yield module, node
