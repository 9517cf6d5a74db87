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
    """The modules below these folders; paths are relative to the root of the repository."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def parsed(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


@functools.cache
def _nodes(module: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(module)))


def nodes(folders: tuple[str, ...] = PRODUCT) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of every module below these folders."""
    for module in modules(folders):
        yield from ((module, node) for node in _nodes(module))


def functions(folders: tuple[str, ...] = PRODUCT) -> Iterator[tuple[Path, Function]]:
    for module, node in nodes(folders):
        if isinstance(node, Function):
            yield module, node


def lines(function: Function) -> int:
    """From the line of `def` to the last; decorators are not counted."""
    assert function.end_lineno
    return function.end_lineno - function.lineno + 1
