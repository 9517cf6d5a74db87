"""docs/borders.md lists each rule for what comes from outside, with the files whose tests are marked with it."""

import pytest

from tests.border_rules import documented_files, marked_files

COUNTS = {"A": 10, "B": 8, "C": 5, "D": 10}
RULES = [f"{part}{number}" for part, count in COUNTS.items() for number in range(1, count + 1)]


def test_every_rule_is_listed_once_and_in_order():
    assert list(documented_files()) == RULES


def test_the_document_lists_the_files_that_are_marked():
    """After a change of markers, `python -m tests.border_rules` writes the table."""
    marked = marked_files()

    assert marked.keys() <= set(RULES), "a marker names a rule that does not exist"
    assert documented_files() == {rule: marked.get(rule, set()) for rule in RULES}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_test(rule):
    assert rule in marked_files()
