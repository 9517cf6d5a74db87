"""docs/inference.md says what each dialect can do, as the suite knows it."""

from pathlib import Path

from tests.contract.inference.abilities import table

PAGE = Path(__file__).parents[3] / "docs" / "inference.md"


def test_the_page_has_the_table_of_the_suite():
    """After a change, `python -m tests.contract.inference.abilities` prints the table."""
    assert "\n".join(table()) in PAGE.read_text()
