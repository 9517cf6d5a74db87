"""The file of `darkroom generate`: its format, stdout, names that cannot be written."""

from io import BytesIO

import pytest
from PIL import Image

from services.cli.main import main
from tests.borders.cli.odd_server import DONE, JSON, dropped, generate, text
from tests.inference_double import picture

pytestmark = pytest.mark.border(rule="D6")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.asyncio(loop_scope="module")
async def test_the_extension_sets_the_format(darkroom, folder):
    wanted = {"a.png": "PNG", "a.jpg": "JPEG", "b.jpeg": "JPEG", "c.WEBP": "WEBP", "no-extension": "PNG"}

    for name in wanted:
        assert await generate(darkroom.url, "-o", name, "--width", "64", "--height", "64") == 0

    assert {name: Image.open(BytesIO((folder / name).read_bytes())).format for name in wanted} == wanted


@pytest.mark.asyncio(loop_scope="module")
async def test_a_dash_writes_the_picture_to_stdout(darkroom, folder, capfdbinary):
    status = await generate(darkroom.url, "-o", "-", "--width", "64", "--height", "64")

    out, _ = capfdbinary.readouterr()
    assert status == 0
    assert Image.open(BytesIO(out)).size == (64, 64)
    assert list(folder.iterdir()) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_hires_fix_is_sent(darkroom, inference):
    for flag in ([], ["--hires-fix"]):
        assert await generate(darkroom.url, "-o", "a.png", "--width", "512", "--height", "512", *flag) == 0

    assert [order["hires_fix"] for order in inference.orders[-2:]] == [False, True]


async def test_a_picture_in_another_format_is_no_jpeg(server, folder, capsys):
    """An older server ignores the format that is asked for."""
    assert await generate(server.url, "-o", "a.jpg") == 1

    assert "the server sent image/png, not jpeg; the image is at http" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


async def test_a_signed_url_keeps_its_query(server):
    asked = []

    def served(request):
        asked.append(dict(request.query))
        return text(picture(), 200, "image/png")(request)

    server.routes["image"] = text({**DONE, "imageUrl": "/media/picture.png?signature=s"}, 200, JSON)
    server.routes["picture"] = served

    assert await generate(server.url, "-o", "a.png") == 0
    assert await generate(server.url) == 0
    assert asked == [{"signature": "s", "format": "png"}, {"signature": "s"}]


@pytest.mark.parametrize("name", ["a.gif", "a.svg", "folder.d/a.TIFF", ""])
async def test_an_unknown_extension_is_refused_at_once(server, name, capsys):
    assert await generate(server.url, "-o", name) == 2

    assert capsys.readouterr().err.startswith("darkroom: -o: ")
    assert server.orders == []


async def test_stdout_takes_one_picture_only(server, capsys):
    assert await generate(server.url, "-o", "-", "--num-images", "2") == 2

    assert "stdout holds one picture" in capsys.readouterr().err
    assert server.orders == []


async def test_a_terminal_gets_no_bytes_of_a_picture(server, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)

    assert await generate(server.url, "-o", "-") == 2
    assert server.orders == []


def test_the_help_names_every_range(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--help"])

    shown = " ".join(capsys.readouterr().out.split())
    for part in ("64 to 2048, a multiple of 8", "1 to 150", "0 to 30", "0 to 4294967295", "--hires-fix", "to stdout"):
        assert part in shown


async def test_a_server_without_http_is_named(server, capsys):
    server.routes["order"] = dropped

    assert await generate(server.url) == 1
    assert "does the server speak https?" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://a..b:80", "http://" + "x" * 80 + ".example"])
async def test_a_host_that_cannot_exist_ends_with_a_sentence(url, capsys):
    assert await generate(url) == 1

    said = capsys.readouterr().err
    assert "is not a valid URL" in said or "no server answers" in said
