"""Static files: only known names, validators, compression, policy."""

import gzip

import pytest
from aiohttp.test_utils import make_mocked_request

from common.domain.errors import NotFound
from services.api.routes.static_files import StaticFiles

POLICY = "default-src 'none'"
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "index.html").write_text("<p>page</p>")
    (tmp_path / "page.js").write_text("let page;")
    (tmp_path / "icon.png").write_bytes(PNG)
    return StaticFiles({name: tmp_path / name for name in ("index.html", "page.js", "icon.png")}, policy=POLICY)


def a_request(**headers):
    return make_mocked_request("GET", "/", headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_a_page_has_its_type_and_its_policy(files):
    page, script = [await files.response(a_request(), name) for name in ("index.html", "page.js")]

    assert (page.body, page.content_type, page.charset) == (b"<p>page</p>", "text/html", "utf-8")
    assert page.headers["Content-Security-Policy"] == POLICY
    assert (script.content_type, script.headers["Cache-Control"]) == ("text/javascript", "no-cache")


async def test_a_file_that_the_client_has_is_not_sent_again(files):
    etag = (await files.response(a_request(), "page.js")).headers["ETag"]

    response = await files.response(a_request(If_None_Match=etag), "page.js")

    assert (response.status, response.body) == (304, None)


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip, br", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("br, gzip;q=0.05", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("x-gzip-like", False),
    ],
)
async def test_a_file_is_compressed_if_the_client_accepts_it(files, accepted, compressed):
    response = await files.response(a_request(Accept_Encoding=accepted), "page.js")

    assert ("Content-Encoding" in response.headers) is compressed
    assert (gzip.decompress(response.body) if compressed else response.body) == b"let page;"
    assert response.headers["Vary"] == "Accept-Encoding"


async def test_a_picture_is_sent_as_it_is(files):
    response = await files.response(a_request(Accept_Encoding="gzip"), "icon.png")

    assert (response.body, response.headers["Content-Type"]) == (PNG, "image/png")
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("name", ["missing.js", "../page.js", "/etc/passwd", "", "page.js/"])
async def test_no_path_is_made_from_a_name(files, name):
    with pytest.raises(NotFound) as refused:
        await files.response(a_request(), name)

    assert refused.value.code == "file_not_found"
