"""Every value is read as it was written."""

import json
from datetime import timedelta

from hypothesis import HealthCheck, given, settings

from common.domain.images import Status
from tests.contract.store.records import an_entry
from tests.contract.store.values import data, records

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(image=records)
async def test_a_record_is_read_as_it_was_written(store, image):
    await store.insert(image)

    found = await store.get(image.id)

    assert found == image
    assert {type(found.pinned), type(found.parameters.hires_fix)} == {bool}
    assert (type(found.status), type(found.parameters.cfg_scale)) == (Status, float)
    assert found.created_at.utcoffset() == timedelta(0)


@many
@given(data=data)
async def test_the_data_of_an_entry_are_read_as_they_were_written(store, data):
    key = json.dumps(data)[:200]
    await store.remove_entry("quota", key)
    await store.put_entry(an_entry(key=key, data=data))

    found = await store.get_entry("quota", key)

    assert json.dumps(found.data, sort_keys=True) == json.dumps(data, sort_keys=True)
