"""Media are tried out where pictures are written: all folders, this month's, as this user."""

import asyncio
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.domain.errors import Misconfigured, Unavailable
from common.media.files import FileMedia
from common.media.keys import FOLDERS
from tests.borders.as_nobody import NOBODY, as_nobody

KEY = "generated_images/2025/01/019469d5-ae18-75ea-918b-6782d8deb53d.png"
OPENS = "asyncio.run(common.media.connect.FileMedia.open(common.media.connect.Path(sys.argv[1])).__aenter__())"


def this_month():
    return f"{datetime.now(UTC):%Y/%m}"


PLACES = [*FOLDERS, *(f"{name}/{part}" for name in FOLDERS for part in ("{year}", "{month}"))]


def place(root, form):
    month = this_month()
    return root / form.format(year=month[:4], month=month)


@pytest.mark.border(rule="C3")
@pytest.mark.parametrize("form", PLACES)
async def test_a_link_in_place_of_a_folder_is_refused_by_name(tmp_path, form):
    root, outside = tmp_path / "media", tmp_path / "outside"
    outside.mkdir()
    place(root, form).parent.mkdir(parents=True)
    place(root, form).symlink_to(outside)

    with pytest.raises(Misconfigured, match=f"MEDIA_ROOT: .*{place(root, form)} is a symbolic link"):
        async with FileMedia.open(root):
            pass
    assert list(outside.iterdir()) == []


@pytest.mark.border(rule="C3")
@pytest.mark.parametrize("form", PLACES)
async def test_a_file_in_place_of_a_folder_is_refused_by_name(tmp_path, form):
    root = tmp_path / "media"
    place(root, form).parent.mkdir(parents=True)
    place(root, form).write_bytes(b"")

    with pytest.raises(Misconfigured, match=r"MEDIA_ROOT: .*(Not a directory|File exists)"):
        async with FileMedia.open(root):
            pass


@pytest.mark.long_unless("generated_images/{month}", "renditions")
@pytest.mark.border(rule="C3")
@pytest.mark.parametrize("form", ["", *PLACES])
def test_a_folder_of_another_user_is_refused_by_name(open_folder, form):
    """All other folders belong to the user, so only a probe in each place can find it."""
    root = open_folder / "media"
    for name in FOLDERS:
        (root / name / this_month()).mkdir(parents=True)
    for folder in [root, *root.rglob("*")]:
        os.chown(folder, NOBODY, NOBODY)
    foreign = place(root, form)
    for path in (foreign, *(each for each in foreign.rglob("*") if not form)):
        os.chown(path, 0, 0)
    if form != "" and not form.endswith("{month}"):  # the month is missing, and the user may not make it
        for child in foreign.iterdir():
            shutil.rmtree(child)

    result = as_nobody(OPENS, root)

    assert f"MEDIA_ROOT: {foreign}" in result
    assert "cannot be written: Permission denied" in result


@contextmanager
def mounted(folder, options):
    """A file system of its own in this folder; the test is not made where nothing can be mounted."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.border(rule="C3")
async def test_a_read_only_disk_is_refused_by_name(tmp_path):
    refused = pytest.raises(Misconfigured, match=r"MEDIA_ROOT: .*Read-only file system")
    with mounted(tmp_path / "media", "size=1m,ro"), refused:
        async with FileMedia.open(tmp_path / "media"):
            pass


@pytest.mark.border(rule="C3")
async def test_a_disk_that_is_full_is_found_by_a_check_and_by_a_write(tmp_path):
    with mounted(tmp_path / "media", "size=256k"):
        async with FileMedia.open(tmp_path / "media") as media:
            await media.check()
            with pytest.raises(Unavailable, match="No space left"):
                await media.put(KEY, b"x" * 300_000)
            (tmp_path / "media/other").write_bytes(b"x" * shutil.disk_usage(tmp_path / "media").free)
            await asyncio.sleep(1.1)  # a check that succeeded counts for a second

            with pytest.raises(Unavailable, match="No space left"):
                await media.check()


@pytest.mark.border(rule="C3")
async def test_an_unmounted_disk_is_found_by_a_check_and_a_write(tmp_path):
    async with FileMedia.open(tmp_path / "media") as media:
        await media.mark("ours")
        shutil.rmtree(tmp_path / "media")

        with pytest.raises(Unavailable):
            await media.put(KEY, b"x")
        with pytest.raises(Unavailable):
            await media.check()
        assert not (tmp_path / "media").exists()  # or the mount would be hidden


@pytest.mark.border(rule="C3")
async def test_a_probe_uses_fsync_and_rename_and_leaves_nothing(tmp_path, monkeypatch):
    calls: list[str] = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, _recorded(name, getattr(os, name), calls))
    async with FileMedia.open(tmp_path / "media") as media:
        calls.clear()
        await media.check()

    assert calls.count("fsync") == 2 * len(FOLDERS)  # a file and its folder, in each
    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


@pytest.mark.border(rule="C3")
@pytest.mark.parametrize("step", ["fsync", "replace"])
async def test_a_probe_that_was_killed_leaves_a_file_for_the_sweep(tmp_path, monkeypatch, step):
    async with FileMedia.open(tmp_path / "media") as media:
        monkeypatch.setattr(os, step, _killed)
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process removes nothing
        with pytest.raises(Killed):
            await media.check()
        monkeypatch.undo()
        left = [path for path in (tmp_path / "media").rglob("*") if path.is_file()]

        listed = [stored.key async for page in media.walk() for stored in page]

        assert len(listed) == len(left) > 0
        await media.remove(listed)
        assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


class Killed(BaseException):
    """The process ends here."""


def _killed(*_):
    raise Killed


def _recorded(name, function, calls):
    def call(*arguments, **named):
        calls.append(name)
        return function(*arguments, **named)

    return call


@pytest.mark.border(rule="C3")
async def test_many_checks_at_once_write_once(tmp_path, monkeypatch):
    calls: list[str] = []
    async with FileMedia.open(tmp_path / "media") as media:
        monkeypatch.setattr(os, "fsync", _recorded("fsync", os.fsync, calls))
        await asyncio.gather(*(media.check() for _ in range(100)))

    assert len(calls) == 2 * len(FOLDERS)


@pytest.mark.border(rule="B7")
@pytest.mark.parametrize("size", [0, 1, 100_000, 4_000_000])
async def test_a_cancelled_write_has_ended_before_its_caller(tmp_path, size):
    """So a caller that removes the files of its attempt removes this one too."""
    async with FileMedia.open(tmp_path / "media") as media:
        for number in range(20):
            writing = asyncio.create_task(media.put(KEY, b"x" * size))
            await asyncio.sleep(number / 4000)
            writing.cancel()
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
            await media.remove([KEY])

    assert [path for path in (tmp_path / "media").rglob("*") if path.is_file()] == []


@contextmanager
def largest_file(size):
    """Beyond this size a write fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.border(rule="C3")
async def test_a_start_on_a_disk_without_room_is_refused_by_name(tmp_path):
    with largest_file(4), pytest.raises(Misconfigured, match=r"MEDIA_ROOT: .*File too large"):
        async with FileMedia.open(tmp_path / "media"):
            pass
