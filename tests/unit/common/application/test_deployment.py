"""The id of a deployment."""

import asyncio

import pytest

from common.application.deployment import deployment_id
from common.store.sqlite import SqliteStore


@pytest.mark.border(rule="A8")
async def test_all_services_of_a_store_have_one_id_and_keep_it(tmp_path):
    async with (
        SqliteStore.open(tmp_path / "one.db", timeout_s=5) as one,
        SqliteStore.open(tmp_path / "other.db", timeout_s=5) as other,
    ):
        ids = await asyncio.gather(*(deployment_id(one) for _ in range(10)))
        foreign = await deployment_id(other)
    async with SqliteStore.open(tmp_path / "one.db", timeout_s=5) as one:
        later = await deployment_id(one)

    assert set(ids) == {later}
    assert foreign != later
