"""A purge of thousands whose janitor is killed twice; `benchmarks/purge_at_size.py` does it with 100,000."""

import pytest

from tests.faults.old_images import purge_with_kills


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.fault(row=54)
async def test_a_purge_killed_twice_removes_only_what_is_old(cluster):
    result = await purge_with_kills(cluster, old=3000, kills=2, batch=100)

    assert cluster.faults == {"SIGKILL after mark": 1, "SIGKILL after unlink": 1}
    assert result.files_left == set()
    assert result.tombstones == 3000
    assert result.peak_kib < result.first_kib + 60_000
