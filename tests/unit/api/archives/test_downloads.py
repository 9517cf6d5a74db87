"""Zip files over HTTP."""

import asyncio
import json
import zipfile
from datetime import timedelta
from io import BytesIO
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import pytest

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.domain.images import Format, Status, image_key
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from common.store.sqlite import SqliteStore
from services.api.archives import routes
from services.api.middleware import patient_writes
from services.api.service import api_running
from tests.making import an_image
from tests.media_folder import media_in


@pytest.fixture
async def api(tmp_path):
    """An api; `add` stores a picture, `prepare` asks for a zip file, `download` reads it."""
    clock = ManualClock()
    async with (
        MemoryBus() as bus,
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        media_in(tmp_path / "media") as media,
        api_running(read_settings({"API_PORT": "0"}), Resources(bus, store, media, clock)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def add(content=b"picture", **fields):
            image = an_image(**{"status": Status.COMPLETED, "attempts": 1, **fields})
            key = image_key(image, Format.PNG)
            await store.insert(image.model_copy(update={"image_file": key}))
            if content is not None:
                await media.put(key, content)
            return image.id

        async def prepare(*ids):
            async with http.post("/api/archives/", json={"ids": ids}) as response:
                return response.status, await response.json()

        async def download(url):
            async with http.get(url) as response:
                return response.status, response.headers, await response.read()

        yield SimpleNamespace(add=add, prepare=prepare, download=download, store=store, http=http, clock=clock)


async def test_pictures_are_downloaded_as_one_file(api):
    """Two pictures with the same name, one without its file, and images that are not the owner's or have no picture."""
    ids = [
        await api.add(b"one", prompt="a red fox"),
        await api.add(b"two", prompt="A red fox!"),
        await api.add(None, prompt="a lost picture"),
        await api.add(b"secret", owner="another"),
        await api.add(None, status=Status.FAILED),
    ]

    status, prepared = await api.prepare(ids[0].upper(), *ids, "0194685b-6c00-7d3e-9f10-2f0a4f6b8c11")
    _, headers, content = await api.download(prepared["url"])

    assert (status, prepared["pictures"], prepared["expiresIn"]) == (201, 3, 300)
    assert headers["Content-Type"] == "application/zip"
    assert headers["Content-Disposition"] == 'attachment; filename="darkroom-2025-01-15-3-pictures.zip"'
    with zipfile.ZipFile(BytesIO(content)) as found:
        assert found.testzip() is None
        assert found.namelist() == ["a-red-fox-7.png", "A-red-fox-7-2.png", "settings.json"]
        assert [found.read(name) for name in found.namelist()[:2]] == [b"one", b"two"]
        settings = json.loads(found.read("settings.json"))
    assert [each["file"] for each in settings] == ["a-red-fox-7.png", "A-red-fox-7-2.png", None]
    assert settings[0]["prompt"] == "a red fox"
    assert (settings[0]["seed"], settings[0]["cfgScale"], settings[0]["id"]) == (7, 7.5, ids[0])


async def test_what_was_deleted_since_is_left_out(api):
    kept, deleted = await api.add(b"one"), await api.add(b"two")
    _, prepared = await api.prepare(kept, deleted)
    async with api.http.delete(f"/api/images/{deleted}/") as response:
        assert response.status == 204

    _, _, content = await api.download(prepared["url"])

    with zipfile.ZipFile(BytesIO(content)) as found:
        assert len(found.namelist()) == 2
    assert (await api.prepare(deleted))[1]["code"] == "image_not_found"


async def test_a_download_expires(api):
    _, prepared = await api.prepare(await api.add())
    api.clock.advance(timedelta(seconds=routes.LIFETIME_S).total_seconds())

    status, _, content = await api.download(prepared["url"])

    assert (status, json.loads(content)["code"]) == (404, "archive_not_found")
    assert (await api.download("/api/archives/?key=none"))[0] == 404


@pytest.mark.parametrize("ids", [[], ["x"], [7], ["0194685b-6c00-7d3e-9f10-2f0a4f6b8c11"] * 501])
async def test_a_bad_list_of_ids_is_refused(api, ids):
    status, problem = await api.prepare(*ids)

    assert (status, problem["code"]) == (400, "invalid_request")


async def test_a_cut_connection_releases_its_download(api, monkeypatch):
    """One download at once: a client begins it and does not read on, a second is refused until the first has left."""
    monkeypatch.setattr(routes, "AT_ONCE", 1)
    _, prepared = await api.prepare(await api.add(b"x" * 30_000_000))
    port = urlsplit(str(api.http._base_url)).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {prepared['url']} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await reader.readexactly(100)

    status, headers, _ = await api.download(prepared["url"])
    writer.transport.abort()
    await writer.wait_closed()

    assert (status, headers["Retry-After"]) == (429, "5")
    async with asyncio.timeout(20):
        while (await api.download(prepared["url"]))[0] != 200:
            pass


async def test_a_client_that_stops_reading_is_disconnected(api, monkeypatch):
    monkeypatch.setattr(patient_writes, "WRITE_TIMEOUT_S", 0.05)
    _, prepared = await api.prepare(await api.add(b"x" * 30_000_000))

    async with api.http.get(prepared["url"]) as response:
        await asyncio.sleep(0.5)  # what is measured is a time in which nothing is read
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_picture_is_downloaded_under_its_name(api):
    image_id = await api.add(b"one", prompt="café")
    image = await api.store.get(image_id)

    _, plain, _ = await api.download(f"/media/{image.image_file}")
    _, named, content = await api.download(f"/media/{image.image_file}?download")

    assert "Content-Disposition" not in plain
    assert named["Content-Disposition"] == "attachment; filename=\"cafe-7.png\"; filename*=UTF-8''caf%C3%A9-7.png"
    assert content == b"one"
