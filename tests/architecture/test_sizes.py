"""Limits of size and complexity for the code of the product."""

import ast
from collections import Counter
from collections.abc import Iterator

from tests.architecture.sources import ROOT, Function, functions, lines, modules

MAX_FUNCTION_LINES = 40
MAX_COMPLEXITY = 10
MAX_MODULE_LINES = 300
MAX_MODULES = 14  # of one package
MAX_REFERENCE_LINES = 1_000  # of the reference inference server, which others read to write their own

BRANCHES = ast.If | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case


def complexity(function: Function) -> int:
    """McCabe's number as ruff's C901 counts it: one more than the branches; an inner function counts by itself."""
    return 1 + sum(isinstance(node, BRANCHES) for node in _own_nodes(function))


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function):
            yield child
            yield from _own_nodes(child)


def test_complexity_counts_branches():
    source = """
        def f(items):
            def inner():
                while True:
                    pass
            for item in items:
                if item:
                    return 1
                elif item is None:
                    return 2
            try:
                match items:
                    case [_]:
                        pass
            except ValueError:
                return [x for x in items if x]
    """
    function = ast.parse(source.replace("\n        ", "\n")).body[0]

    assert isinstance(function, ast.FunctionDef)
    assert complexity(function) == 1 + 5


def test_no_function_is_too_long():
    lengths = {f"{module}:{node.name}": lines(node) for module, node in functions()}

    assert len(lengths) > 500
    assert {place: length for place, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_no_function_is_too_complex():
    numbers = {f"{module}:{node.name}": complexity(node) for module, node in functions()}

    assert {place: number for place, number in numbers.items() if number > MAX_COMPLEXITY} == {}


def test_no_module_is_too_long():
    lengths = {str(module): len((ROOT / module).read_text().splitlines()) for module in modules()}

    assert {module: length for module, length in lengths.items() if length > MAX_MODULE_LINES} == {}


def test_the_reference_inference_server_is_small():
    lengths = [len(path.read_text().splitlines()) for path in (ROOT / "services/inference").rglob("*.py")]

    assert 500 < sum(lengths) <= MAX_REFERENCE_LINES


def test_no_package_has_too_many_modules():
    counts = Counter(str(module.parent) for module in modules() if module.name != "__init__.py")

    assert {package: count for package, count in counts.items() if count > MAX_MODULES} == {}
