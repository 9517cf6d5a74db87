"""A damaged entry of the store costs only itself: a quota, a key, a remembered cancel."""

from datetime import timedelta

import pytest

from common.application.api_keys import ApiKeyStore
from common.application.early_cancels import EarlyCancel, find_early_cancel, remember_cancel
from common.application.quota_store import QuotaStore
from common.bus.port import Done, Reject
from common.messages import CancelImage
from common.store.port import Entry
from services.janitor.cancel import cancel
from services.janitor.dead_letters import fail_dead_letter
from tests.making import an_image
from tests.unit.janitor.support import cluster, inserted
from tests.unit.janitor.test_dead_letters import letter, sent_for

pytestmark = pytest.mark.border(rule="B4")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"entries": None},
        {"entries": 5},
        {"entries": [["x"]]},
        {"entries": [["yesterday", "a"]]},
        {"entries": [["2025-01-15T12:00:00", "a"]]},
        {"entries": [], "forgiven": "x"},
    ],
    ids=repr,
)
async def test_a_damaged_quota_does_not_lock_its_owner_out(tmp_path, data, caplog):
    async with cluster(tmp_path) as context:
        quota = QuotaStore(kind="quota", limit=2, store=context.store, clock=context.clock)
        await context.store.put_entry(Entry("quota", "ada", 1, data))

        assert (await quota.usage("ada")).ids == []
        assert (await quota.reserve("ada", "an image")).ids == ["an image"]
        assert (await quota.usage("ada")).ids == ["an image"]
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"owner": None},
        {"owner": "line\nbreak"},
        {"owner": ["ada"]},
        {"created_at": "yesterday"},
        {"created_at": "2025-01-15T12:00:00"},
        {"expires_at": 5},
        {"webhook": "example.org"},
        {"webhook": 7},
        {"hash": None},
        {"hash": 7},
    ],
    ids=repr,
)
async def test_a_damaged_key_is_no_key_and_leaves_the_others(tmp_path, change):
    async with cluster(tmp_path) as context:
        keys = ApiKeyStore(context.store, context.clock)
        good, bad = await keys.create("ada"), await keys.create("bob")
        key_id = bad.split("_")[1]
        entry = await context.store.get_entry("key", key_id)
        data = {name: value for name, value in {**entry.data, **change}.items() if value is not None}
        assert await context.store.put_entry(Entry("key", key_id, 2, data))

        assert await keys.find(bad) is None
        assert (await keys.find(good)).owner == "ada"
        assert "ada" in [key.owner for key in await keys.list_all()]
        assert await keys.is_valid(key_id) is ("hash" in change)
        assert await keys.revoke(key_id)


@pytest.mark.parametrize("data", [{}, {"owners": None}, {"owners": "ada"}, {"owners": [5, None]}], ids=repr)
async def test_a_damaged_cancel_names_nobody(tmp_path, data):
    async with cluster(tmp_path) as context:
        image = an_image(source="shop", owner="ada")
        data = {name: value for name, value in data.items() if value is not None}
        await context.store.put_entry(Entry("cancelled", f"{image.id}:shop", 1, data))
        assert await find_early_cancel(context.store, image) is EarlyCancel.NOTHING

        command = CancelImage(id="1", source="shop", subject=image.id, owner="ada")
        await remember_cancel(context.store, image.id, command, expires_at=context.clock.now() + timedelta(minutes=1))

        assert await find_early_cancel(context.store, image) is EarlyCancel.IMAGE


async def test_messages_about_an_unreadable_record_end(tmp_path, newer_version):
    """They would come back for ever: the record does not become readable by waiting."""
    async with cluster(tmp_path) as context:
        image = await inserted(context, source="shop", owner="ada")
        body = sent_for(image)
        newer_version(tmp_path / "darkroom.db", image.id)

        command = CancelImage(id="1", source="shop", subject=image.id, owner="ada")
        outcome = await cancel(command, context=context)
        assert isinstance(outcome, Reject)
        assert outcome.reason.startswith("unreadable: ")
        assert await fail_dead_letter(letter(body), context=context) == Done()
