"""The number of cases of a fuzz test, drawn from one seed.

`make test` tries few, always the same. `make fuzz-borders EXAMPLES=20000 SEED=7` tries as many as named.
"""

import os
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
LIMIT_S = 60 if not EXAMPLES else 7200  # for `pytest.mark.timeout`


def examples(short: int, *, at_most: int = 1_000_000) -> int:
    """How many cases to try: `short` in a short run; a test with slow cases names its most."""
    return min(EXAMPLES, at_most) if EXAMPLES else short


def fuzzed(short: int, *, at_most: int = 1_000_000) -> Callable[[Any], Any]:
    """Decorator of a test with `@given`: how many examples, drawn from the seed of the run."""

    def decorate(test: Any) -> Any:
        configured = hypothesis.settings(
            max_examples=examples(short, at_most=at_most),
            database=None,
            deadline=None,  # a busy machine must not fail a test
            suppress_health_check=list(HealthCheck),
        )(test)
        return hypothesis.seed(SEED)(configured)

    return decorate
