"""`darkroom media copy`: all media to another place, resumable, compared by digest."""

import asyncio
import json
import os
import resource
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from common.application.deployment import deployment_id
from common.application.media_owner import claim_media
from common.application.operation.checkpoint import raise_checkpoint, read_checkpoints
from common.application.operation.media_copy import MediaCopy
from common.domain.errors import Misconfigured, Unavailable
from common.media.connect import open_media
from common.media.files import FileMedia
from common.runtime.clock import SystemClock
from common.store.sqlite import SqliteStore
from services.cli.main import main
from tests.media_folder import files_in
from tests.servers.fork_server import forked_python

KEY = "generated_images/2025/01/019469d5-ae18-75ea-918b-6782d8deb53d.png"

FILES = 30


def a_key(number):
    return f"thumbnails/2025/{number % 12 + 1:02}/{number:08x}-ae18-75ea-918b-6782d8deb53d.webp"


def content_of(number):
    return number.to_bytes(4) * 5000


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORE_URL", "sqlite:///a.db")
    monkeypatch.setenv("RECONCILE_INTERVAL", "0.001")  # how long a copy looks whether a janitor runs
    return tmp_path / "from", tmp_path / "to"


@pytest.fixture
async def pictures(folders):
    """Media of a store with 30 files, a checkpoint and what a killed write has left."""
    async with SqliteStore.open(folders[0].parent / "a.db", timeout_s=5) as store, FileMedia.open(folders[0]) as media:
        await claim_media(store, media)
        for number in range(FILES):
            await media.put(a_key(number), content_of(number))
        for _ in range(5):
            await raise_checkpoint(store, media)
        (folders[0] / a_key(0)).with_name(f".{a_key(0).rpartition('/')[2]}.0123456789abcdef.part").touch()
        return await deployment_id(store)


def contents(folder):
    return {key: (folder / key).read_bytes() for key in files_in(folder) if not key.endswith(".part")}


def notes(folder):
    return {file.name: file.read_text() for file in folder.glob(".darkroom-*")}


def copy(capsys, *more):
    """Run the command with --json; returns its exit status, the lines about files, and the totals."""
    status = main(["media", "copy", "from", "to", "--json", *more])
    *lines, totals = map(json.loads, capsys.readouterr().out.splitlines())
    return status, lines, totals


@pytest.mark.usefixtures("pictures")
def test_everything_is_copied_except_leftovers(folders, capsys):
    status, lines, totals = copy(capsys)

    assert status == 0
    assert contents(folders[1]) == {a_key(number): content_of(number) for number in range(FILES)}
    assert files_in(folders[1]) == contents(folders[1]).keys()
    assert notes(folders[1]) == notes(folders[0])
    assert {line["key"] for line in lines} == contents(folders[0]).keys()
    assert totals == {
        **dict.fromkeys(("replaced", "unchanged", "failed", "deletedMeanwhile", "onlyAtDestination"), 0),
        "copied": FILES,
        "bytes": FILES * 20_000,
        "examples": [],
        "sourceInUse": False,
    }
    assert main(["media"]) == 0  # both belong to the store of the settings


async def test_a_killed_copy_goes_on_where_it_stopped(folders, pictures, capsys):
    """SIGKILL after a few files. No service starts on the half copy, and no file is visible that is not whole."""
    process = await forked_python(
        "-m", "services", "media", "copy", "from", "to", "--json", "--at-once", "2", env=os.environ, stdout=PIPE
    )
    for _ in range(7):
        await process.stdout.readline()
    process.kill()
    assert await process.wait() == -signal.SIGKILL

    half = contents(folders[1])
    assert 7 <= len(half) < FILES
    assert half.items() <= contents(folders[0]).items()
    assert notes(folders[1]) == {".darkroom-store": f"unfinished copy of {pictures}\n"}
    async with SqliteStore.open(Path("a.db"), timeout_s=5) as store, FileMedia.open(folders[1]) as media:
        with pytest.raises(Misconfigured, match="a copy to them is not finished; `darkroom media copy` continues it"):
            await claim_media(store, media)

    status, lines, totals = await asyncio.to_thread(copy, capsys)
    assert (status, len(lines), totals["unchanged"]) == (0, FILES - len(half), len(half))
    assert contents(folders[1]) == contents(folders[0])
    assert notes(folders[1]) == notes(folders[0])


@pytest.mark.usefixtures("pictures")
def test_a_corrupt_file_is_noticed_and_replaced(folders, capsys):
    copy(capsys)
    (folders[1] / a_key(3)).write_bytes(content_of(4))  # of the right size
    (folders[1] / a_key(5)).write_bytes(b"")

    assert copy(capsys, "--only-missing")[2]["unchanged"] == FILES
    status, lines, totals = copy(capsys)

    assert status == 0
    assert sorted(lines, key=lambda line: line["key"]) == [
        {"key": a_key(number), "size": 20_000, "replaced": True} for number in (3, 5)
    ]
    assert (totals["replaced"], totals["unchanged"]) == (2, FILES - 2)
    assert contents(folders[1]) == contents(folders[0])


@pytest.mark.usefixtures("pictures")
def test_what_only_the_destination_has_is_kept_and_named(folders, capsys):
    """Pictures that were deleted at the source between two copies, or painted after the switch."""
    copy(capsys)
    (folders[0] / a_key(3)).unlink()

    status, _, totals = copy(capsys)

    assert status == 0
    assert (totals["onlyAtDestination"], totals["examples"]) == (1, [a_key(3)])
    assert (folders[1] / a_key(3)).exists()


@pytest.mark.parametrize("what", ["marked", "unmarked", "unfinished"])
async def test_a_destination_of_another_store_is_refused(folders, pictures, what, capsys):
    async with SqliteStore.open(Path("b.db"), timeout_s=5) as store, FileMedia.open(folders[1]) as media:
        if what == "marked":
            await claim_media(store, media)
        await media.put(KEY, b"theirs")
        if what == "unfinished":
            await media.mark("unfinished copy of theirs")
    before = notes(folders[1])

    assert await asyncio.to_thread(main, ["media", "copy", "from", "to"]) == 1

    assert "media_foreign: the destination seems to be of another store" in capsys.readouterr().err
    assert contents(folders[1]) == {KEY: b"theirs"}
    assert notes(folders[1]) == before


def full_disk():
    """Beyond this size a write fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("fault", ["full", "in the way"])
def test_a_destination_that_fails_ends_the_copy(folders, fault, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if fault == "full":
        full_disk()
    else:
        (folders[1] / "thumbnails/2025").mkdir(parents=True)
        (folders[1] / "thumbnails/2025/04").touch()
    try:
        status = main(["media", "copy", "from", "to", "--json"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    reason = {"full": "File too large", "in the way": "Not a directory"}[fault]
    assert status == 1
    assert error == {
        "code": "unavailable",
        "detail": f"the destination is unavailable: {reason}; run it again to continue",
    }
    assert notes(folders[1])[".darkroom-store"].startswith("unfinished copy")


class OddMedia(FileMedia):
    """Media where reading one file fails, or gives other bytes."""

    odd: tuple[str, bytes | None] = ("", None)

    async def get(self, key):
        if key != self.odd[0]:
            return await super().get(key)
        if self.odd[1] is None:
            raise Unavailable("media", "Input/output error")
        return self.odd[1]


@asynccontextmanager
async def copying(folders, *, source_odd=("", None), target_odd=("", None), on_file=None, interval_s=0.0):
    """A copy between real folders, and what it has reported."""
    async with OddMedia.open(folders[0], read_only=True) as source, OddMedia.open(folders[1]) as target:
        assert isinstance(source, OddMedia)
        assert isinstance(target, OddMedia)
        source.odd, target.odd = source_odd, target_odd
        reported = []

        def report(file):
            reported.append(file)
            if on_file is not None:
                on_file(file)

        yield MediaCopy(source, target, report, SystemClock(), interval_s=interval_s, at_once=4), reported


@pytest.mark.parametrize(
    ("side", "answer", "code"), [("source_odd", None, "unavailable"), ("target_odd", b"other", "differs")]
)
async def test_a_file_that_cannot_be_copied_is_named(folders, pictures, side, answer, code):
    """The others are copied; the copy stays an unfinished one, and the next one finishes it."""
    async with copying(folders, **{side: (a_key(3), answer)}) as (copy, reported):
        totals = await copy.run()

    assert [(file.key, file.error.code) for file in reported if file.error] == [(a_key(3), code)]
    assert (totals.failed, totals.copied) == (1, FILES - 1)
    assert notes(folders[1]) == {".darkroom-store": f"unfinished copy of {pictures}\n"}

    async with copying(folders) as (copy, _):
        assert (await copy.run()).failed == 0
    assert contents(folders[1]) == contents(folders[0])
    assert notes(folders[1]) == notes(folders[0])


@pytest.mark.usefixtures("pictures")
async def test_at_most_so_many_files_are_in_memory(folders):
    held, most = 0, 0

    class Counting(FileMedia):
        async def get(self, key):
            nonlocal held, most
            held += 1
            most = max(most, held)
            return await super().get(key)

    def let_go(_file):
        nonlocal held
        held -= 1

    async with Counting.open(folders[0], read_only=True) as source, FileMedia.open(folders[1]) as target:
        await MediaCopy(source, target, let_go, SystemClock(), interval_s=0, at_once=3).run()

    assert most == 3


@pytest.mark.usefixtures("pictures")
async def test_a_source_in_use_gives_a_checkpoint_of_no_trust(folders):
    """Services write to the source until they are switched: no sweep may act on the first copy.

    The second copy, after the switch, brings what is missing and the checkpoint.
    """
    async with SqliteStore.open(Path("a.db"), timeout_s=5) as store, FileMedia.open(folders[0]) as before:
        raising: list[asyncio.Future] = []

        def on_file(_file):
            if not raising:
                raising.append(asyncio.ensure_future(raise_checkpoint(store, before)))

        async with copying(folders, on_file=on_file, interval_s=60) as (copy, _):
            totals = await copy.run()
        await before.put(KEY, b"painted before the switch")

        async with FileMedia.open(folders[1]) as after:
            await claim_media(store, after)
            assert totals.source_in_use
            assert (await read_checkpoints(store, after)).difference
            assert await raise_checkpoint(store, after)  # it stays as it is

            async with copying(folders) as (copy, _):
                assert not (await copy.run()).source_in_use
            assert await after.get(KEY) == b"painted before the switch"
            assert await raise_checkpoint(store, after) is None
            number = await after.checkpoint()

    async with copying(folders) as (copy, _):
        await copy.run()
        assert await copy.target.checkpoint() == number  # of the media in use; that of the source is older


async def test_media_without_a_marker_are_copied(tmp_path):
    """Media of a version before markers, or of no store."""
    folders = tmp_path / "from", tmp_path / "to"
    async with FileMedia.open(folders[0]) as media:
        await media.put(KEY, b"x")

    async with copying(folders) as (copy, _):
        await copy.run()

    assert contents(folders[1]) == {KEY: b"x"}
    assert notes(folders[1]) == {}


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("nowhere", "to"), "nowhere cannot be read: No such file or directory"),
        (("from", "file:///"), "TO: must be file:///absolute/folder, with three slashes"),
        (("gopher://x", "to"), "FROM: gopher:// is not supported"),
    ],
)
@pytest.mark.usefixtures("pictures")
def test_a_place_that_cannot_be_opened_is_named(folders, places, message, capsys):
    assert main(["media", "copy", *places]) == 2

    assert message in capsys.readouterr().err
    assert not folders[1].exists()


def test_an_empty_source_is_said(folders, capsys):
    folders[0].mkdir()

    assert main(["media", "copy", "from", "to"]) == 0

    shown = capsys.readouterr()
    assert shown.out == "0 copied (0.0 MB), 0 there already\n"
    assert "FROM holds no pictures" in shown.err
    assert list(folders[0].iterdir()) == []  # nothing is written there


async def in_bucket(bucket):
    """The objects of a deployment, and its notes."""
    async with open_media(bucket.root, bucket.settings(), read_only=True) as media:
        files = {file.key: await media.get(file.key) async for page in media.walk() for file in page}
        return files, await media.marker(), await media.checkpoint()


@pytest.mark.long
async def test_a_folder_goes_into_a_bucket_and_back(folders, pictures, bucket, monkeypatch):
    """Killed on the way, it goes on; a wrong object is replaced. Back in a folder it is what it was."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    process = await forked_python(
        "-m", "services", "media", "copy", "from", bucket.root, "--json", "--at-once", "2", env=os.environ, stdout=PIPE
    )
    for _ in range(7):
        await process.stdout.readline()
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    files, marker, _ = await in_bucket(bucket)
    assert files.items() <= contents(folders[0]).items()
    assert len(files) < FILES
    assert marker == f"unfinished copy of {pictures}"

    assert await asyncio.to_thread(main, ["media", "copy", "from", bucket.root]) == 0
    async with open_media(bucket.root, bucket.settings()) as media:
        await media.put(a_key(3), content_of(4))
    assert await asyncio.to_thread(main, ["media", "copy", "from", bucket.root]) == 0
    files, marker, checkpoint = await in_bucket(bucket)
    assert files == contents(folders[0])
    assert (f"{marker}\n", f"{checkpoint}\n") == (
        notes(folders[0])[".darkroom-store"],
        notes(folders[0])[".darkroom-checkpoint"],
    )

    assert await asyncio.to_thread(main, ["media", "copy", bucket.root, "to"]) == 0
    assert contents(folders[1]) == contents(folders[0])
    assert notes(folders[1]) == notes(folders[0])


async def test_a_bucket_that_does_not_answer_is_named(folders, pictures, bucket, monkeypatch, capsys):
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("MEDIA_TIMEOUT", "1")

    assert await asyncio.to_thread(main, ["media", "copy", "from", bucket.root]) == 1

    assert "unavailable: TO is unavailable: " in capsys.readouterr().err


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(capsys, monkeypatch, is_terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal)

    assert main(["media", "copy", "from", "to"]) == 0

    shown = capsys.readouterr()
    assert shown.out == "30 copied (0.6 MB), 0 there already\n"
    assert ("files, 0.0 MB copied" in shown.err) == is_terminal
    assert is_terminal or shown.err == ""
