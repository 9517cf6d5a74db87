import asyncio
import contextlib
import os
import resource
import shutil
import signal
import sys

import pytest

from common.domain.errors import Invalid, Misconfigured, Unavailable
from common.media.connect import open_media
from common.media.files import FileMedia
from tests.servers.fork_server import forked_python

ID = "019469d5-ae18-75ea-918b-6782d8deb53d"
NAME = f"{ID}.png"
KEY = f"generated_images/2025/01/{NAME}"
LEFTOVER = f"generated_images/2025/01/.{NAME}.0123456789abcdef.part"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "media"


@pytest.fixture
async def media(root):
    async with FileMedia.open(root) as media:
        yield media


async def listed(media):
    return [file.key async for page in media.walk() for file in page]


def names_below(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())


@contextlib.contextmanager
def largest_file(size):
    """Beyond this size a write fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_path_is_the_plain_file(media, root):
    await media.put(KEY, b"x")

    assert media.path(KEY) == root / KEY
    assert media.path(KEY).read_bytes() == b"x"
    assert media.path(f"thumbnails/2025/01/{NAME}") == root / "thumbnails/2025/01" / NAME


async def test_a_write_that_fails_is_unavailable_and_leaves_nothing(media, root):
    await media.put(KEY, b"before")

    with largest_file(10_000), pytest.raises(Unavailable, match="media") as failed:
        await media.put(KEY, b"x" * 20_000)

    assert failed.value.what == "media"
    assert names_below(root) == [KEY]
    assert await media.get(KEY) == b"before"


async def test_a_file_where_a_folder_should_be_is_unavailable(media, root):
    shutil.rmtree(root / "generated_images")
    (root / "generated_images").write_bytes(b"")

    with pytest.raises(Unavailable):
        await media.put(KEY, b"x")
    with pytest.raises(Unavailable):
        await media.get(KEY)

    assert await media.exists([KEY]) == set()
    assert await listed(media) == []


async def test_a_folder_that_was_removed_is_made_again(media, root):
    await media.put(KEY, b"x")
    shutil.rmtree(root / "generated_images")

    await media.put(KEY, b"y")

    assert await media.get(KEY) == b"y"


async def test_a_missing_media_folder_is_unavailable_not_empty(media, root):
    shutil.rmtree(root)

    with pytest.raises(Unavailable):
        await media.exists([KEY])
    with pytest.raises(Unavailable):
        await listed(media)
    with pytest.raises(Unavailable):
        await media.check()


async def test_the_leftover_of_a_broken_write_is_listed_and_removed(media, root):
    await media.put(KEY, b"x")
    (root / LEFTOVER).write_bytes(b"half")

    assert sorted(await listed(media)) == [LEFTOVER, KEY]
    with pytest.raises(Invalid):
        await media.get(LEFTOVER)
    with pytest.raises(Invalid):
        await media.put(LEFTOVER, b"x")
    assert media.path(LEFTOVER) is None
    await media.remove([LEFTOVER])
    assert await listed(media) == [KEY]


async def test_a_write_that_is_killed_leaves_what_walk_lists(media, root):
    (root / KEY).parent.mkdir(parents=True)
    child = await forked_python("-c", KILLED, str(root), KEY)
    assert await child.wait() == -signal.SIGKILL

    assert await media.get(KEY) is None
    [leftover] = await listed(media)
    assert leftover.endswith(".part")
    await media.remove([leftover])
    assert await listed(media) == []


KILLED = """
import asyncio, os, signal, sys
from common.media.connect import open_media
async def main(root, key):
    async with open_media(root) as media:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        await media.put(key, b"half of it")
asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_is_not_ours_is_neither_listed_nor_touched(media, root):
    await media.put(KEY, b"x")
    (root / "generated_images/2025/01/notes.txt").write_text("mine")
    (root / "generated_images/.DS_Store").write_text("")
    (root / "lost+found").mkdir()

    assert await listed(media) == [KEY]


async def test_no_link_leads_out_of_the_root(media, root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / NAME).write_bytes(b"secret")
    (root / "generated_images/2025").mkdir(parents=True)
    (root / "generated_images/2025/01").symlink_to(outside)
    (root / "thumbnails/2025/01").mkdir(parents=True)
    thumbnail = f"thumbnails/2025/01/{NAME}"
    (root / thumbnail).symlink_to(outside / NAME)

    for key in (KEY, thumbnail):
        assert media.path(key) is None
        with pytest.raises(Unavailable):
            await media.get(key)
    with pytest.raises(Unavailable):
        await media.put(KEY, b"x")
    with pytest.raises(Unavailable):
        await media.remove([KEY])
    assert await listed(media) == []

    await media.put(thumbnail, b"x")  # takes the place of the link
    assert (outside / NAME).read_bytes() == b"secret"
    assert await media.get(thumbnail) == b"x"


async def test_the_root_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "media").symlink_to(tmp_path / "disk")

    async with FileMedia.open(tmp_path / "media") as media:
        await media.put(KEY, b"x")
        assert media.path(KEY) == tmp_path / "disk" / KEY


async def test_a_cancelled_write_is_whole_or_not_there(root):
    async with FileMedia.open(root) as media:
        writing = asyncio.create_task(media.put(KEY, b"x" * 1_000_000))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    assert names_below(root) in ([], [KEY])


# ---------------------------------------------------------------- MEDIA_ROOT


@pytest.mark.parametrize("form", ["{}/a/media", "file://{}/a/media", "file://localhost{}/a/media"])
async def test_open_media_makes_the_folder(tmp_path, form):
    async with open_media(form.format(tmp_path)) as media:
        await media.put(KEY, b"x")

    assert (tmp_path / "a/media" / KEY).read_bytes() == b"x"


async def test_a_relative_folder_is_below_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async with open_media("var/media") as media:
        monkeypatch.chdir("/")
        await media.put(KEY, b"x")

    assert names_below(tmp_path / "var/media") == [KEY]


@pytest.mark.parametrize("root", ["gs://bucket", "az://container", "http://host/hunter2"])
def test_other_object_stores_are_refused(root):
    with pytest.raises(Misconfigured, match=r"MEDIA_ROOT: [a-z]+:// is not supported") as refused:
        open_media(root)

    assert refused.value.detail.endswith("use a folder, or s3://bucket/prefix")
    assert "hunter2" not in refused.value.detail


@pytest.mark.parametrize(
    "root",
    [
        "s3://",
        "s3:///prefix",
        "s3://b",
        "s3://Bucket/prefix",
        "s3://key:hunter2@bucket/prefix",
        "s3://bucket/prefix?secret=hunter2",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/pré",
        f"s3://bucket/{'a/' * 300}",
    ],
)
def test_a_bucket_of_another_form_is_refused(root):
    with pytest.raises(Misconfigured, match="MEDIA_ROOT: must be s3://bucket/prefix") as refused:
        open_media(root)

    assert "hunter2" not in refused.value.detail


def test_a_bucket_needs_the_extra(monkeypatch):
    for module in ("obstore", "common.media.objects.media"):
        monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(Misconfigured, match=r"darkroom\[objects\]"):
        open_media("s3://bucket/prefix")


@pytest.mark.parametrize("root", ["", "  ", "file://", "file:///", "file://host/folder", "a\0b"])
def test_what_is_no_folder_is_refused(root):
    with pytest.raises(Misconfigured, match="MEDIA_ROOT"):
        open_media(root)


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()

    for root in (tmp_path / "file", tmp_path / "file" / "media"):
        with pytest.raises(Misconfigured, match="MEDIA_ROOT"):
            async with open_media(str(root)):
                pass


async def test_what_a_killed_write_of_a_note_left_is_removed(media, root):
    """The next write of it removes what is a minute old; another process may be writing what is newer."""
    old, new = (root / f"..darkroom-checkpoint.{digit * 16}.part" for digit in "ab")
    for part in (old, new):
        part.write_text("7\n")
    os.utime(old, (1, 1))

    await media.set_checkpoint(8)

    assert names_below(root) == [new.name, ".darkroom-checkpoint"]
