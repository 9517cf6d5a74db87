"""The engine of diffusers on tiny models with random weights. Only `make test-diffusers` collects these tests.

They need torch, which the other environments of the tests do not have. Where it is missing, the run fails here.
"""

import os
import warnings

import pytest

IS_WANTED = "TEST_DIFFUSERS" in os.environ
collect_ignore_glob = [] if IS_WANTED else ["test_*.py"]

if IS_WANTED:
    with warnings.catch_warnings():  # theirs are no errors of ours
        warnings.simplefilter("ignore")
        from tests.diffusers import tiny_models


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/diffusers" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.timeout(600))  # two shared cores


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with tiny models: `sd`, `sdxl`, `flux` as folders, `sd-file`, `sdxl-file`, `flux-file` as files."""
    folder = tmp_path_factory.mktemp("models")
    tiny_models.make(folder)
    return folder
