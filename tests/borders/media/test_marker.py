"""Media belong to one store, which a marker names."""

import asyncio
import json
import os
import shutil
from contextlib import asynccontextmanager
from subprocess import PIPE

import pytest

from common.application.deployment import deployment_id
from common.application.media_owner import claim_media
from common.domain import images
from common.domain.errors import Misconfigured, Unavailable
from common.domain.images import Format, Status
from common.media.files import FileMedia
from common.store.sqlite import SqliteStore
from services.cli.main import main
from tests.making import an_image
from tests.servers.fork_server import forked_python


@asynccontextmanager
async def deployment(store_path, media_path):
    async with SqliteStore.open(store_path, timeout_s=5) as store, FileMedia.open(media_path) as media:
        yield store, media


async def with_pictures(store, media, count):
    """Completed images with their files, as the version before left them: no marker."""
    made = [an_image(status=Status.COMPLETED, attempts=1) for _ in range(count)]
    made = [image.model_copy(update={"image_file": images.image_key(image, Format.PNG)}) for image in made]
    for image in made:
        await store.insert(image)
        await media.put(image.image_file, b"x")
    return made


@pytest.mark.border(rule="C1")
@pytest.mark.parametrize("count", [0, 1, 30])
async def test_new_and_old_media_are_marked_at_the_first_start(tmp_path, count):
    async with deployment(tmp_path / "a.db", tmp_path / "media") as (store, media):
        await with_pictures(store, media, count)
        (tmp_path / "media/notes.txt").write_text("of somebody else")

        await claim_media(store, media)
        await claim_media(store, media)

        assert await media.marker() == await deployment_id(store)
        await media.check()


@pytest.mark.border(rule="C1")
@pytest.mark.parametrize("is_marked", [True, False])
async def test_media_of_another_store_are_refused_until_adopted(tmp_path, is_marked):
    async with deployment(tmp_path / "theirs.db", tmp_path / "media") as (store, media):
        await with_pictures(store, media, 3)
        if is_marked:
            await claim_media(store, media)

    async with deployment(tmp_path / "ours.db", tmp_path / "media") as (store, media):
        with pytest.raises(Misconfigured, match=r"MEDIA_ROOT: .*`darkroom media --adopt`"):
            await claim_media(store, media)
        await claim_media(store, media, adopt=True)
        await claim_media(store, media)

    async with deployment(tmp_path / "theirs.db", tmp_path / "media") as (store, media):
        with pytest.raises(Misconfigured, match="belong to another store"):
            await claim_media(store, media)


@pytest.mark.border(rule="C1")
async def test_services_that_start_together_both_mark_their_media(tmp_path, monkeypatch):
    """The first one is between its look at the marker and that at the files when the second one marks them."""
    async with deployment(tmp_path / "a.db", tmp_path / "media") as (store, media):
        await store.insert(an_image(status=Status.COMPLETED, attempts=1))
        looked, may_go_on = asyncio.Event(), asyncio.Event()
        walk = media.walk

        async def slow_walk():
            looked.set()
            await may_go_on.wait()
            async for page in walk():
                yield page

        monkeypatch.setattr(media, "walk", slow_walk)
        first = asyncio.create_task(claim_media(store, media))
        await looked.wait()
        monkeypatch.setattr(media, "walk", walk)
        await claim_media(store, media)
        may_go_on.set()
        await first

        assert await media.marker() == await deployment_id(store)


@pytest.mark.border(rule="C1")
async def test_an_empty_folder_in_place_of_marked_media_is_refused(tmp_path):
    async with deployment(tmp_path / "a.db", tmp_path / "media") as (store, media):
        await with_pictures(store, media, 3)
        await claim_media(store, media)
    shutil.rmtree(tmp_path / "media")

    async with deployment(tmp_path / "a.db", tmp_path / "media") as (store, media):
        with pytest.raises(Misconfigured, match="is it mounted"):
            await claim_media(store, media)


@pytest.mark.border(rule="C1")
@pytest.mark.parametrize("damage", ["empty", "binary", "long", "folder"])
async def test_a_damaged_marker_is_not_taken_for_ours(tmp_path, damage):
    async with deployment(tmp_path / "a.db", tmp_path / "media") as (store, media):
        await with_pictures(store, media, 3)
        marker = tmp_path / "media/.darkroom-store"
        if damage == "folder":
            marker.mkdir()
            with pytest.raises(Unavailable):
                await claim_media(store, media)
            return
        marker.write_bytes({"empty": b"", "binary": b"\xff\x00\x1b[2J", "long": b"x" * 100_000}[damage])

        if damage == "empty":  # the start that made it was killed
            await claim_media(store, media)
        else:
            with pytest.raises(Misconfigured, match="belong to another store") as refused:
                await claim_media(store, media)
            assert len(refused.value.detail) < 400
            assert refused.value.detail.isprintable()


@pytest.mark.border(rule="C1")
async def test_services_that_start_at_once_agree_on_one_marker(tmp_path):
    async def start():
        async with deployment(tmp_path / "a.db", tmp_path / "media") as (store, media):
            await claim_media(store, media)
            await media.check()
            return await media.marker(), await deployment_id(store)

    for _ in range(5):
        found = await asyncio.gather(*(start() for _ in range(8)))
        assert len({each for pair in found for each in pair}) == 1
        shutil.rmtree(tmp_path / "media")


@pytest.mark.border(rule="C1")
async def test_media_that_change_under_a_running_service_are_unready(tmp_path):
    async with deployment(tmp_path / "a.db", tmp_path / "media") as (store, media):
        await claim_media(store, media)
        (tmp_path / "media/.darkroom-store").rename(tmp_path / "away")
        with pytest.raises(Unavailable, match="is the folder mounted"):
            await media.check()

        (tmp_path / "media/.darkroom-store").write_text("another store\n")
        with pytest.raises(Unavailable, match="does not hold the marker"):
            await media.check()


@pytest.mark.border(rule="C1")
def test_the_command_names_the_fault_and_takes_over(tmp_path, monkeypatch, capsys):
    """An operator points the store of a new deployment at old media."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path / "media"))
    monkeypatch.setenv("STORE_URL", "sqlite:///a.db")
    assert main(["media"]) == 0
    monkeypatch.setenv("STORE_URL", "sqlite:///b.db")

    assert main(["media"]) == 1
    assert "media_foreign: MEDIA_ROOT" in capsys.readouterr().err
    assert main(["media", "--adopt"]) == 0
    assert main(["media"]) == 0


def test_the_command_says_that_one_side_was_restored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path / "media"))
    monkeypatch.setenv("STORE_URL", "sqlite:///a.db")
    assert main(["media"]) == 0
    assert "restored" not in capsys.readouterr().out
    (tmp_path / "media/.darkroom-checkpoint").write_text("7\n")

    assert main(["media"]) == 0
    assert "(checkpoint none and 7): one of them was restored from a backup" in capsys.readouterr().out
    assert main(["media", "--adopt"]) == 0
    assert "restored" not in capsys.readouterr().out


@pytest.mark.border(rule="C1")
@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_a_service_does_not_start_on_media_of_another_store(tmp_path, log_format):
    async with deployment(tmp_path / "theirs.db", tmp_path / "media") as (store, media):
        made = await with_pictures(store, media, 3)
        await claim_media(store, media)
    settings = {
        "STORE_URL": f"sqlite:///{tmp_path}/ours.db",
        "MEDIA_ROOT": str(tmp_path / "media"),
        "LOG_FORMAT": log_format,
        "API_PORT": "0",
        "INFERENCE_PORT": "0",
    }
    service = await forked_python("-m", "services", "up", env={**os.environ, **settings}, stderr=PIPE)

    _, written = await asyncio.wait_for(service.communicate(), 60)

    assert service.returncode == 1
    last = written.decode().splitlines()[-1]
    text = json.loads(last)["event"] if log_format == "json" else last.removeprefix("darkroom: ")
    assert text.startswith("media_foreign: MEDIA_ROOT: the media belong to another store")
    assert all((tmp_path / "media" / image.image_file).exists() for image in made)
