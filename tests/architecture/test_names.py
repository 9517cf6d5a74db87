"""Names of types, modules, tests and identifiers."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import EVERYTHING, Function, functions, lines, modules, nodes, parsed

MAX_TEST_NAME = 60  # characters
MAX_SILENT_LINES = 30  # of a test without a docstring

# An old name and the one that took its place. No identifier has it: variable, attribute, argument, function or type.
REPLACED = {
    "BEYOND": "MAX_POSITION",
    "Down": "BrokerUnavailable",
    "EventDue": "PendingEvent",
    "Known": "SeenEvents",
    "Letters": "DeadLetters",
    "Link": "Connection",
    "Notes": "WriteBehind",
    "Parts": "Resources",
    "Refused": "InvalidTransition or QueueFull",
    "Shown": "ClientEvent",
    "Studio": "GenerationContext",
    "TOLD_APART": "MAX_POSITION",
    "Taking": "Consumer",
    "Tools": "JanitorContext",
    "alone": "standalone",
    "browsers": "browser_security",
    "bury": "tombstone, dead_letter or fail_dead_letter",
    "easel": "inference_stub",
    "event_due": "pending_event",
    "hear": "on_event",
    "house": "cluster",
    "is_repeat": "observe",
    "lapse": "expire_lease",
    "mother": "fork_server",
    "nursery": "fork_server",
    "offers": "models",
    "owing": "pending_event",
    "perhaps": "latest",
    "scene": "fault_cluster",
    "settling": "outcomes",
    "surely": "earliest",
    "swagger": "docs_page",
    "trouble": "unready_reason",
}
# Ordinary words: replaced as the name of a module only.
REPLACED_MODULES = {
    "asking": "deadlines",
    "known": "deduplication",
    "letters": "dead_letters",
    "link": "connection",
    "listening": "subscriber",
    "measured": "request_metrics",
    "moves": "transitions",
    "notes": "write_behind",
    "operating": "operator",
    "places": "queue_positions",
    "publishing": "publisher",
    "wire": "codec",
    "within": "deadlines",
    "working": "consumer",
}
# Ordinary words: replaced as the name of a method or function only.
REPLACED_FUNCTIONS = {
    "move": "transition",
    "settled": "stable_now",
    "within": "deadline",
}


def identifiers() -> Iterator[tuple[str, str]]:
    """Every identifier with its place: what is defined, assigned, passed, imported or used."""
    for module, node in nodes(EVERYTHING):
        place = f"{module}:{getattr(node, 'lineno', 1)}"
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, place
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, place
            case ast.keyword(arg=str(name)):
                yield name, place
            case ast.alias(name=dotted, asname=alias):
                yield from ((part, place) for part in (*dotted.split("."), alias or ""))


def types() -> Iterator[tuple[str, str]]:
    """Every class, and every type alias of a module, with its place."""
    for module in modules(EVERYTHING):
        aliases = [target for statement in parsed(module).body for target in targets(statement)]
        yield from ((alias.id, f"{module}:{alias.lineno}") for alias in aliases if is_type_name(alias.id))
    for module, node in nodes(EVERYTHING):
        if isinstance(node, ast.ClassDef):
            yield node.name, f"{module}:{node.lineno}"


def targets(node: ast.stmt) -> list[ast.Name]:
    found: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        found = node.targets
    elif isinstance(node, ast.AnnAssign):
        found = [node.target]
    return [target for target in found if isinstance(target, ast.Name)]


def is_type_name(name: str) -> bool:
    """`Handler`, not `MAX_POSITION`; a name of one letter is a type variable."""
    return name[:1].isupper() and not name.isupper()


def test_a_type_name_is_defined_once():
    places = defaultdict(list)
    for name, place in types():
        places[name].append(place)

    assert len(places) > 200
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_replaced_name_is_left():
    found = [f"{place} {name}: {REPLACED[name]}" for name, place in identifiers() if name in REPLACED]

    assert found == []


def test_no_module_has_a_replaced_name():
    replaced = REPLACED | REPLACED_MODULES
    names = [(module, name) for module in modules(EVERYTHING) for name in parts(module)]

    assert [f"{module}: {replaced[name]}" for module, name in names if name in replaced] == []


def parts(module: Path) -> list[str]:
    """The names of a module and its packages; `test_` is no part of a name."""
    return [part.removeprefix("test_") for part in module.with_suffix("").parts]


def test_no_function_has_a_replaced_name():
    found = [
        f"{module}:{node.lineno} {node.name}: {REPLACED_FUNCTIONS[node.name]}"
        for module, node in nodes(EVERYTHING)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in REPLACED_FUNCTIONS
    ]

    assert found == []


def test_a_modules_first_line_names_one_subject():
    firsts = {
        str(module): (ast.get_docstring(parsed(module)) or "").partition("\n")[0] for module in modules(EVERYTHING)
    }

    assert [f"{module}: {first}" for module, first in firsts.items() if ", and" in first] == []


def each_test() -> Iterator[tuple[str, Function]]:
    for module, function in functions(("tests",)):
        if function.name.startswith("test_"):
            yield f"{module}:{function.name}", function


def test_names_of_tests_are_short():
    assert [place for place, test in each_test() if len(test.name) >= MAX_TEST_NAME] == []


def test_names_of_tests_hold_no_row_of_the_fault_list():
    assert [place for place, test in each_test() if re.match(r"test_(rows?_\d|\d+_\d)", test.name)] == []


def test_a_long_test_begins_with_its_scenario():
    long = [(place, test) for place, test in each_test() if lines(test) > MAX_SILENT_LINES]

    assert [place for place, test in long if not ast.get_docstring(test)] == []
