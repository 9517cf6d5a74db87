"""Delivery of the page: a fixed set of small files, revalidated, under a strict policy."""

from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.gallery_pictures import add_images

PAGE = Path(__file__).parents[2] / "services" / "api" / "playground"
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}


async def test_the_page_comes_under_a_strict_policy(api):
    async with api.http.get(api.url + "/") as response:
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))

        assert response.status == 200
        assert response.content_type == "text/html"
        assert policy == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_an_unchanged_file_is_not_sent_again(api):
    async with api.http.get(api.url + "/playground/main.js") as first:
        etag = first.headers["ETag"]
        assert first.content_type == "text/javascript"
        assert "session.start()" in await first.text()

    async with api.http.get(api.url + "/playground/main.js", headers={"If-None-Match": etag}) as second:
        assert (second.status, await second.read()) == (304, b"")


async def test_a_browser_without_gzip_gets_the_plain_file(api):
    async with api.http.get(api.url + "/playground/base.css", headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.read() == (PAGE / "base.css").read_bytes()


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "vendor/README.md", "vendor", "none.js", "index.html/x"])
async def test_no_other_file_is_given(api, name):
    status, problem = await api.get(f"/playground/{name}")

    assert status == 404
    assert problem["code"] in {"file_not_found", "not_found"}


async def test_the_first_load_is_small(api, new_visit):
    """Over the wire, with headers and the newest pictures' records; the files of pictures and the websocket apart."""
    await add_images(api, 40)
    visit = await new_visit()
    await expect(visit.page.locator("#gallery h2")).to_contain_text("40 pictures")
    sizes = await visit.page.evaluate("""() =>
        [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
            .filter(({ name }) => !name.includes("/media/"))
            .map(({ transferSize }) => transferSize)
    """)

    assert min(sizes) > 0, "each file is loaded for the first time"
    assert sum(sizes) <= 120_000


def test_every_module_is_asked_for_at_once():
    """A module that is found only by the import of another costs a round trip more."""
    links = Links()
    links.feed((PAGE / "index.html").read_text())

    modules = {f"playground/{path.relative_to(PAGE).as_posix()}" for path in PAGE.rglob("*.js")}
    later = {"playground/embedded.js", "playground/worker.js"}  # when a picture is dropped; with notifications
    assert links.targets == modules - later


def test_vendored_files_have_version_licence_and_hash():
    for folder in (PAGE / "vendor", Path(__file__).parent / "vendor"):
        readme = (folder / "README.md").read_text()
        for path in folder.glob("*.js"):
            (row,) = [line for line in readme.splitlines() if f"`{path.name}`" in line and line.startswith("|")]
            assert sha256(path.read_bytes()).hexdigest() in row
        assert all(path.name in readme for path in folder.iterdir() if path.name.startswith("LICENSE"))


class Links(HTMLParser):
    """The scripts and preloaded modules of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        target = named.get("src") if tag == "script" else named.get("href")
        if target and (tag == "script" or named.get("rel") == "modulepreload"):
            self.targets.add(target)
