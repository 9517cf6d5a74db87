"""The tree of unit tests mirrors the tree of the code."""

import pytest

from tests.architecture.sources import ROOT

MIRRORED = {
    "common": "common",
    "api": "services/api",
    "generator": "services/generator",
    "janitor": "services/janitor",
    "webhooks": "services/webhooks",
    "inference": "services/inference",
    "diffusers_engine": "services/diffusers_engine",
    "cli": "services/cli",
}


@pytest.mark.parametrize(("tests", "code"), MIRRORED.items(), ids=MIRRORED)
def test_every_folder_of_unit_tests_is_a_package_of_the_code(tests, code):
    folder = ROOT / "tests/unit" / tests
    tested = {path.parent.relative_to(folder) for path in folder.rglob("*.py")}

    assert [str(path) for path in sorted(tested) if not (ROOT / code / path / "__init__.py").exists()] == []


def test_every_folder_below_the_unit_tests_is_mirrored():
    folders = {path.parent.relative_to(ROOT / "tests/unit").parts[:1] for path in (ROOT / "tests/unit").rglob("*.py")}

    assert {first[0] for first in folders if first} <= set(MIRRORED)
