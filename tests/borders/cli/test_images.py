"""The commands about images at a real server, at servers that answer oddly."""

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE
from io import BytesIO

import pytest
from PIL import Image

from services.cli.main import main
from tests.borders.cli.odd_server import DONE, FAILED, IMAGE, JSON, cut, problem, text
from tests.servers.fork_server import forked_python

pytestmark = [pytest.mark.border(rule="D6"), pytest.mark.usefixtures("quick")]
SMALL = ("--width", "64", "--height", "64", "--steps", "2")
NONE = "0194685b-6c00-7d3e-9f10-2f0a4f6b8c11"  # there is no such image


@pytest.fixture
def darkroom_command(capfd):
    """Runs the command; returns its exit status, stdout and stderr."""

    async def run(server, *arguments: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(main, [*arguments, "--url", server.url])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.asyncio(loop_scope="module")
async def test_images_are_generated_listed_fetched_and_deleted(darkroom, darkroom_command, tmp_path):
    """Two images are ordered; they are found by a word, and one is written as JPEG; then both are deleted."""
    _, out, err = await darkroom_command(darkroom, "generate", "zebra one", "-n", "2", "--json", "--seed", "7", *SMALL)
    made = lines(out)
    assert err == "", "no progress where stderr is no terminal"
    assert [(each["status"], each["parameters"]["seed"], each["prompt"]) for each in made] == [
        ("completed", 7, "zebra one"),
        ("completed", 8, "zebra one"),
    ]
    assert all((tmp_path / each["path"]).stat().st_size == each["fileSize"] for each in made)
    ids = [each["id"] for each in made]

    status, out, err = await darkroom_command(darkroom, "history", "zebra", "--since", "1h", "--oldest", "--json")
    assert (status, [each["id"] for each in lines(out)], err) == (0, ids, "darkroom: 2 images\n")
    _, out, _ = await darkroom_command(darkroom, "history", "zebra", "-n", "1")
    assert out.startswith(f"{ids[1]}  ")
    assert out.endswith("  completed  64 × 64  sdxl  zebra one\n")
    assert (await darkroom_command(darkroom, "history", "zebra", "--until", "2025-01-15"))[1] == ""

    assert (await darkroom_command(darkroom, "get", "--wait", ids[0], "-o", "a.jpg"))[:2] == (0, "a.jpg\n")
    assert Image.open(BytesIO((tmp_path / "a.jpg").read_bytes())).format == "JPEG"
    status, out, err = await darkroom_command(darkroom, "get", ids[0], NONE, "--json", "--no-picture")
    assert (status, [each.get("error") for each in lines(out)]) == (
        1,
        [None, {"code": "image_not_found", "detail": f"there is no image {NONE}"}],
    )
    assert err == f"darkroom: {NONE}: image_not_found: there is no image {NONE}\n"

    status, out, _ = await darkroom_command(darkroom, "delete", ids[0], NONE, ids[1])
    assert (status, out) == (1, f"{ids[0]}\n{ids[1]}\n"), "a failure does not keep the others"
    assert (await darkroom_command(darkroom, "history", "zebra"))[1] == ""


@pytest.mark.asyncio(loop_scope="module")
async def test_pictures_of_several_images_get_names_of_their_own(darkroom, darkroom_command, tmp_path):
    _, out, _ = await darkroom_command(darkroom, "generate", "two boats", "-n", "2", "-o", "boat.png", *SMALL)
    assert out == "boat-0.png\nboat-1.png\n"
    _, out, _ = await darkroom_command(darkroom, "history", "boats", "--oldest", "--json")
    ids = [each["id"] for each in lines(out)]

    assert (await darkroom_command(darkroom, "get", *ids))[1] == f"{ids[0]}.png\n{ids[1]}.png\n"
    assert (await darkroom_command(darkroom, "get", *ids, "-o", "b.webp"))[1] == "b-0.webp\nb-1.webp\n"
    assert (tmp_path / "b-1.webp").read_bytes()[8:12] == b"WEBP"
    assert (await darkroom_command(darkroom, "delete", ids[0], "--batch", "--json"))[1] == (
        f'{{"id": "{ids[0]}", "deleted": true}}\n'
    )
    assert (await darkroom_command(darkroom, "history", "boats"))[1] == ""


@pytest.mark.asyncio(loop_scope="module")
async def test_all_pages_of_the_history_are_listed(darkroom, darkroom_command, monkeypatch):
    from services.cli.images import history

    monkeypatch.setattr(history, "_PAGE", 1)
    await darkroom_command(darkroom, "generate", "three gulls", "-n", "3", *SMALL)

    status, out, err = await darkroom_command(darkroom, "history", "gulls", "-n", "0")
    assert (status, out.count("three gulls"), err) == (0, 3, "darkroom: 3 images\n")
    _, out, err = await darkroom_command(darkroom, "history", "gulls", "-n", "2")
    assert (out.count("three gulls"), err) == (2, "darkroom: 2 images, perhaps more; -n shows them\n")


ODD = {
    "a page instead of the image": (["get", NONE], "image", text("<html>"), "answered 200 with text/html"),
    "an answer that is cut": (["get", NONE], "image", cut, "the connection to"),
    "an image that failed": (["get", NONE], "image", text(FAILED, 200, JSON), "deadline: too late"),
    "an image that waits": (["get", NONE], "image", text(IMAGE, 200, JSON), "queued: there is no picture"),
    "a page instead of the picture": (["get", NONE], "picture", text("<html>"), "not with the picture"),
    "a page instead of the history": (["history"], "image", text("<html>"), "answered 200 with text/html"),
    "a history of another form": (["history"], "image", text({"images": 7}, 200, JSON), "of another form"),
    "a history that is cut": (["history"], "image", cut, "the connection to"),
    "a filter that is refused": (["history"], "image", problem(400, "invalid", "no"), "invalid: no"),
    "a delete that is refused": (["delete", NONE], "image", problem(403, "forbidden", "no"), "forbidden: no"),
    "502 of a proxy": (["delete", NONE], "image", text("<html>", 502), "answered 502 with text/html"),
}


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_answer_is_a_line_of_json_and_a_sentence(server, case, darkroom_command, tmp_path):
    arguments, route, answer, sentence = ODD[case]
    server.routes[route] = answer

    status, out, err = await darkroom_command(server, *arguments, "--json")

    (line,) = lines(out)
    assert (status, err.count("\n"), list(tmp_path.iterdir())) == (1, 1, [])
    assert sentence in err
    assert line["error"]["code"]
    assert line["error"]["detail"] in err


async def test_a_history_cannot_move_the_cursor_of_a_terminal(server, darkroom_command):
    evil = {**DONE, "prompt": "\x1b[2J\r\nall is well\u202e", "modelUsed": "\x9b31m"}
    server.routes["image"] = text({"images": [evil]}, 200, JSON)

    assert (await darkroom_command(server, "history"))[1].removesuffix("\n").isprintable()
    (line,) = lines((await darkroom_command(server, "history", "--json"))[1])
    assert line["prompt"] == evil["prompt"]


async def test_get_waits_until_the_image_has_ended(server, darkroom_command):
    answers = [IMAGE, {**IMAGE, "status": "running"}]

    async def answer(request):
        return await text(answers.pop(0) if answers else DONE, 200, JSON)(request)

    server.routes["image"] = answer

    assert (await darkroom_command(server, "get", NONE, "--wait"))[:2] == (0, f"{IMAGE['id']}.png\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "x", "-o", "-", "--json"], "stdout holds the picture or --json"),
        (["get", NONE, NONE, "-o", "-"], "stdout holds one picture"),
        (["get", NONE, "-o", "a.png", "--no-picture"], "-o: names no file"),
        (["get", NONE, "-o", "a.gif"], ".gif is not supported"),
        (["history", "--since", "yesterday"], "--since: must be a date"),
        (["history", "--until", "2025-13-01"], "--until: must be a date"),
        (["history", "-n", "-1"], "--limit: must be 0 or more"),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_sent(server, arguments, said, darkroom_command):
    asked: list[object] = []
    server.routes["image"] = asked.append

    status, _, err = await darkroom_command(server, *arguments)

    assert status == 2
    assert said in err
    assert (asked, server.orders) == ([], [])


@pytest.mark.parametrize("wrong", ["../x", "", "a/b", "a b", "-x", "x" * 65])
def test_what_is_no_id_is_refused(wrong, capsys):
    for command in ("get", "delete"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--url", "http://localhost:1", "--", wrong])
        assert ended.value.code == 2
        assert "is no id of an image" in capsys.readouterr().err


async def test_an_unwritable_file_is_found_before_the_download(server, darkroom_command, tmp_path):
    asked: list[object] = []
    server.routes["image"] = asked.append
    (tmp_path / "file").touch()

    status, out, _ = await darkroom_command(server, "get", NONE, "-o", "file/picture.png", "--json")

    assert (status, asked) == (1, [])
    assert lines(out)[0]["error"]["code"] == "cannot_write"


async def test_a_reader_that_ends_causes_no_traceback(server):
    server.routes["image"] = text({"images": [DONE] * 100}, 200, JSON)
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "wb") as stdout:
        command = "-m", "services", "history", "-n", "100", "--json", "--url", server.url
        process = await forked_python(*command, stdout=stdout, stderr=PIPE)
        _, err = await process.communicate()

    assert (process.returncode, err) == (1, b"")


async def test_ctrl_c_ends_with_a_sentence_and_its_status(server):
    """The image never ends; Ctrl-C comes when its record is read."""
    asked = asyncio.Event()

    async def waits(request):
        asked.set()
        return await text(IMAGE, 200, JSON)(request)

    server.routes["image"] = waits
    process = await forked_python("-m", "services", "generate", "x", "--url", server.url, stderr=PIPE)
    await asked.wait()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert err == b"darkroom: stopped waiting; a request that was sent is not cancelled\n"
    assert process.returncode == 130


async def test_generate_reports_a_failed_image_in_json(server, darkroom_command):
    server.routes["image"] = text(FAILED, 200, JSON)

    status, out, err = await darkroom_command(server, "generate", "x", "--json")

    (line,) = lines(out)
    assert (status, line) == (1, FAILED), "an image that failed has its error as the server sends it"
    assert err == "darkroom: deadline: too late\n"
