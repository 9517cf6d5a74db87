"""docs/security.md lists rows 56 to 68 of the fault list with the files whose tests are marked with them."""

from tests.fault_rows import documented_files, marked_files, missing_tests

ROWS = range(56, 69)
DOCUMENT = "security.md"


def test_every_row_is_listed_once_and_in_order():
    assert list(documented_files(DOCUMENT)) == list(ROWS)


def test_the_document_lists_the_files_that_are_marked():
    marked = {row: files for row, files in marked_files().items() if row in ROWS}

    assert documented_files(DOCUMENT) == dict(sorted(marked.items()))


def test_no_test_is_marked_with_a_row_beyond_the_list():
    assert set(marked_files()) == set(range(1, 69))


def test_every_test_that_the_document_names_exists():
    assert missing_tests(DOCUMENT) == []
