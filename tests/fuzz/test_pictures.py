"""Pictures into the checker: only BadImage is raised, no warning escapes, memory is bounded.

A failure names its mutant: `tests.fuzz.mutations.mutant("1/4711")` makes the bytes again.
"""

import resource
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.domain.errors import BadImage
from services.generator.pictures import check, make_preview
from tests.fuzz.budget import LIMIT_S, SEED, examples
from tests.fuzz.mutations import SIZE, mutants, with_random_metadata
from tests.odd_answers import BAD_PICTURES, SOUND_PICTURES

pytestmark = pytest.mark.timeout(LIMIT_S)

MAX_PIXELS = 1_000_000
MEMORY = 192 * 1024 * 1024  # bytes for one check: a picture of a million pixels has 4 MB, Pillow's blocks have 16 MB


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Allocations of more than `MEMORY` raise MemoryError meanwhile."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def checked(content: bytes) -> None:
    found = check(content, max_pixels=MAX_PIXELS, thumbnail_size=64, thumbnail_format=None)
    assert found.thumbnail


def previewed(content: bytes) -> None:
    assert make_preview(content, max_bytes=16_000)


def findings_of(act: Callable[[bytes], None], cases: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """The places where anything but a BadImage came from, each with the name of the first case."""
    found: dict[str, str] = {}
    with bounded_memory():
        for name, content in cases:
            with warnings.catch_warnings(record=True) as escaped:
                warnings.simplefilter("always")
                try:
                    act(content)
                except BadImage as error:
                    _note_bad_text(error, name, found)
                except Exception as error:  # noqa: BLE001 - each kind is a finding
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    found.setdefault(f"{type(error).__name__} in {place.filename}:{place.lineno}: {error}", name)
            for warning in escaped:
                found.setdefault(f"warning {warning.category.__name__}: {warning.message}", name)
    return found


def _note_bad_text(error: BadImage, name: str, found: dict[str, str]) -> None:
    if len(error.detail) > 300 or not error.detail.isprintable():
        found.setdefault(f"a text that no record takes: {error.detail[:300]!r}", name)


@pytest.mark.border(rule="B1")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit of memory is measured on Linux")
@pytest.mark.parametrize("act", [checked, previewed])
def test_a_changed_picture_is_taken_or_a_bad_image(act):
    count = examples(1000, at_most=100_000)

    assert findings_of(act, mutants(SEED, count)) == {}


@pytest.mark.border(rule="B3")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit of memory is measured on Linux")
def test_no_metadata_refuses_sound_pixels():
    names = [f"{SEED}/{number}" for number in range(examples(500, at_most=100_000))]
    refused: dict[str, str] = {}

    def take(content: bytes) -> None:
        try:
            checked(content)
        except BadImage as error:
            refused.setdefault(error.detail, name)

    found: dict[str, str] = {}
    for name in names:
        found |= findings_of(take, [(name, with_random_metadata(name))])
    assert (refused, found) == ({}, {})


@pytest.mark.border(rule="B3")
@pytest.mark.parametrize("name", SOUND_PICTURES)
def test_each_odd_picture_with_sound_pixels_is_taken(name):
    content = SOUND_PICTURES[name](SIZE)

    found = check(content, max_pixels=MAX_PIXELS, thumbnail_size=64, thumbnail_format=None)

    assert (found.width, found.height) == SIZE, "as shown"


@pytest.mark.parametrize("name", sorted(BAD_PICTURES.keys() - {"other size"}))
def test_each_picture_without_usable_pixels_is_a_bad_image(name):
    with pytest.raises(BadImage):
        checked(BAD_PICTURES[name](SIZE))
