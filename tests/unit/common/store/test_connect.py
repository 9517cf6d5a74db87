import pytest

from common.domain.errors import Misconfigured
from common.store.connect import open_store
from common.store.sqlite import SqliteStore


async def test_sqlite_with_three_slashes_is_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async with open_store("sqlite:///var/dark%20room.db", timeout_s=5) as store:
        assert isinstance(store, SqliteStore)

    assert (tmp_path / "var" / "dark room.db").is_file()


async def test_sqlite_with_four_slashes_is_absolute(tmp_path):
    async with open_store(f"sqlite:///{tmp_path}/darkroom.db", timeout_s=5):
        pass

    assert (tmp_path / "darkroom.db").is_file()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "darkroom.db",
        "postgresql://user:hunter2@host/db",
        "user:hunter2@host://x",
        "sqlite://",
        "sqlite:///",
        "sqlite:///folder/",
        "sqlite://var/darkroom.db",
        "sqlite:///:memory:",
        "sqlite:///darkroom.db?mode=ro",
    ],
)
def test_an_invalid_url_is_refused_with_the_setting_name(url):
    with pytest.raises(Misconfigured, match="STORE_URL") as refused:
        open_store(url, timeout_s=5)

    assert "hunter2" not in refused.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://host",
        "mongodb://host/",
        "mongodb://user:hunter2@host:port/db",
        "mongodb://user:hun@ter2@host/db",
        "mongodb:///db",
    ],
)
async def test_an_invalid_mongodb_url_is_refused_without_its_password(url):
    with pytest.raises(Misconfigured, match="STORE_URL") as refused:
        async with open_store(url, timeout_s=1):
            pass

    assert "hun" not in refused.value.detail
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


async def test_hosts_that_cannot_be_looked_up_are_refused():
    with pytest.raises(Misconfigured, match="looked up") as refused:
        async with open_store("mongodb+srv://user:hunter2@127.0.0.1/db", timeout_s=1):
            pass

    assert "hunter2" not in str(refused.value.__cause__.__cause__)
