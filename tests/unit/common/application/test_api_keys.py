"""API keys: shown once, stored as a hash, rejected once they are revoked or expired."""

import re
from datetime import timedelta

import pytest

from common.application.api_keys import KIND, ApiKeyStore
from common.domain.errors import Forbidden, Invalid
from common.domain.owners import parse_owner, scoped_key
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.cli import keys as command
from tests.unit.webhooks.support import SECRET

HOOK = "https://example.org/secret?token=7"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def keys(tmp_path, clock):
    async with SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store:
        yield ApiKeyStore(store, clock)


async def test_a_key_is_found_by_its_text_and_by_nothing_less(keys):
    text = await keys.create("ada", name="a script")

    found = await keys.find(text)

    assert re.fullmatch("darkroom_[0-9a-f]{12}_[0-9a-f]{48}", text)
    assert (found.owner, found.name) == ("ada", "a script")
    for wrong in ("", text[:-1], text + "0", text[:-1] + "x", text.upper(), f" {text}", text.rpartition("_")[0]):
        assert await keys.find(wrong) is None


async def test_what_is_kept_of_a_key_is_not_the_key(keys, tmp_path):
    text = await keys.create("ada")

    secret = text.rpartition("_")[2]
    [entry] = await keys.store.list_entries(KIND)
    assert secret not in repr(entry)
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


async def test_a_revoked_key_is_refused_by_the_next_request(keys):
    text = await keys.create("ada")
    key = await keys.find(text)

    assert await keys.revoke(key.id)

    assert await keys.find(text) is None
    assert not await keys.is_valid(key.id)
    assert not await keys.revoke(key.id)


async def test_an_expired_key_is_refused_and_still_listed(keys, clock):
    text = await keys.create("ada", expires_at=clock.now() + timedelta(hours=1))
    assert await keys.find(text)

    clock.advance(3600)

    assert await keys.find(text) is None
    assert [key.owner for key in await keys.list_all()] == ["ada"]


async def test_the_command_prints_the_key_alone(keys, clock, capsys):
    assert await command.create(keys, read_settings({}), "ada", name="laptop", expires_in_s=3600) == 0
    printed = capsys.readouterr()
    assert await command.list_keys(keys) == 0
    listed = capsys.readouterr()
    [key] = await keys.list_all()
    assert await command.revoke(keys, key.id) == 0
    assert await command.revoke(keys, key.id) == 1

    assert (await keys.find(printed.out.strip())) is None
    assert re.fullmatch("darkroom_[0-9a-f]{12}_[0-9a-f]{48}\n", printed.out)
    assert "API_KEYS=true" in printed.err
    assert listed.out == f"{key.id}  2025-01-15  expires 2025-01-15  ada  laptop\n"
    assert printed.out.strip() not in listed.out


async def test_a_key_has_a_webhook_that_only_its_holder_sees_whole(keys, capsys):
    settings = read_settings({"WEBHOOK_SECRETS": SECRET})
    assert await command.create(keys, settings, "ada", webhook=HOOK) == 0
    key = await keys.find(capsys.readouterr().out.strip())
    assert await command.list_keys(keys) == 0

    assert key.webhook == HOOK
    assert "secret" not in repr(key)
    assert capsys.readouterr().out.endswith("  ada    webhook example.org\n")


@pytest.mark.parametrize(
    ("webhook", "secrets", "error"),
    [
        (HOOK, {}, Forbidden),
        ("http://example.org/", {"WEBHOOK_SECRETS": SECRET}, Forbidden),
        ("https://10.0.0.7/", {"WEBHOOK_SECRETS": SECRET}, Forbidden),
        ("example.org", {"WEBHOOK_SECRETS": SECRET}, Invalid),
    ],
)
async def test_no_key_has_a_webhook_that_its_orders_may_not_use(keys, webhook, secrets, error):
    with pytest.raises(error):
        await command.create(keys, read_settings(secrets), "ada", webhook=webhook)

    assert await keys.list_all() == []


@pytest.mark.parametrize("name", ["", "  ", "a\x00", "a\nb", "\ud800", "x" * 256, None, 7, ["ada"], "a\u2028b"])
def test_what_is_no_owners_name_is_refused(name):
    with pytest.raises(Invalid) as error:
        parse_owner(name)
    assert error.value.code == "invalid_owner"


def test_two_owners_never_share_a_scoped_key():
    parts = ["a", "b", ":", "%", "3A", "%3A", "a:b", "%25"]

    made = {scoped_key(one + other, rest) for one in parts for other in parts for rest in parts}

    assert len(made) == len({(one + other, rest) for one in parts for other in parts for rest in parts})
