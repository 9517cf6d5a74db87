"""docs/reliability.md lists rows 1 to 55 of the fault list with the files whose tests are marked with them."""

from tests.fault_rows import documented_files, marked_files, missing_tests

ROWS = range(1, 56)
DOCUMENT = "reliability.md"


def test_every_row_is_listed_once_and_in_order():
    assert list(documented_files(DOCUMENT)) == list(ROWS)


def test_the_document_lists_the_files_that_are_marked():
    marked = {row: files for row, files in marked_files().items() if row in ROWS}

    assert documented_files(DOCUMENT) == dict(sorted(marked.items()))


def test_every_test_that_the_document_names_exists():
    assert missing_tests(DOCUMENT) == []
