"""A bench for each dialect; what a dialect lacks is a strict xfail."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.inference.dialect import DialectBench, bench_of
from tests.contract.inference.dialects import DIALECTS


@pytest.fixture(params=DIALECTS)
async def bench(request) -> AsyncIterator[DialectBench]:
    """Marked with `needs(ability)`, a test is a strict xfail for the dialects that lack the ability."""
    dialect = DIALECTS[request.param]
    for mark in request.node.iter_markers("needs"):
        if reason := dialect.lacks.get(mark.args[0]):
            request.node.add_marker(pytest.mark.xfail(reason=f"{mark.args[0]}: {reason}", strict=True))
    async with bench_of(dialect) as made:
        if request.node.get_closest_marker("needs") is not None:
            made.engine.take_time()
        yield made
