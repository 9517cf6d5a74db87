"""Share links over HTTP: made, listed and revoked by the owner, visited by anybody."""

import asyncio
import io
import re
from types import SimpleNamespace

import aiohttp
import pytest
from PIL import Image

from common.application.resources import Resources
from common.bus.memory import MemoryBus
from common.domain import transitions
from common.domain.errors import Misconfigured, Unavailable
from common.domain.images import Format, Status, image_key, new_image_id
from common.media.files import FileMedia
from common.provenance.marks import Marker
from common.runtime.clock import ManualClock
from common.runtime.reading_settings import read_settings
from common.store.port import change
from common.store.sqlite import SqliteStore
from services.api.auth.identity import require_valid_identity
from services.api.service import api_running
from services.api.sharing.bare_pictures import MOST, BarePictures
from services.api.sharing.links import MAX_LINKS
from tests.making import NOON, an_image
from tests.media_folder import media_in
from tests.odd_pictures import encoded, png_chunk, png_with

KEY = "a-signing-secret-of-the-tests-0123456789"
SETTINGS = {"API_PORT": "0", "SHARE_LINKS": "true", "MEDIA_SIGNING_KEYS": KEY}
HOUR_S = 3600
PROMPT = 'a <b>secret</b> "lighthouse"'
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORGED = f"/share/{'A' * 40}.{'A' * 43}"


@pytest.fixture
def settings():
    """`@pytest.mark.parametrize("settings", [{…}])`."""
    return SETTINGS


@pytest.fixture
async def api(tmp_path, settings):
    """An api; `add` stores a picture, `share` makes a link to it, `ask` sends a request."""
    clock = ManualClock()
    async with (
        MemoryBus() as bus,
        SqliteStore.open(tmp_path / "darkroom.db", timeout_s=5) as store,
        media_in(tmp_path / "media") as media,
        api_running(read_settings(settings), Resources(bus, store, media, clock)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
    ):

        async def add(content=None, image_format=Format.PNG, **fields):
            fields = {"status": Status.COMPLETED, "attempts": 1, "prompt": PROMPT, "format": image_format, **fields}
            image = an_image(**fields)
            image = image.model_copy(update={"image_file": image_key(image, image_format)})
            await store.insert(image)
            marker = Marker(embeds_parameters=True, max_bytes=10**7)
            await media.put(image.image_file or "", content or marker.mark(encoded(image_format.name), image))
            return image

        async def ask(method, path, **more):
            async with http.request(method, path, **more) as response:
                content = await response.read()
                is_json = "json" in response.headers.get("Content-Type", "")
                return response.status, response.headers, await response.json() if is_json else content

        async def share(image, **more):
            body = {"expiresIn": HOUR_S, **more}
            return (await ask("POST", f"/api/images/{image.id}/shares/", json=body))[2]

        yield SimpleNamespace(add=add, share=share, ask=ask, store=store, media=media, clock=clock)


def source_of(page):
    return re.search(rb'<img src="([^"]+)"', page)[1].decode()


async def test_a_link_that_shows_the_prompt(api):
    """The page has the prompt as text, the file is the stored one, and both say that nothing may index or keep them."""
    image = await api.add()
    made = await api.share(image, showPrompt=True)

    status, headers, page = await api.ask("GET", made["url"], headers=BROWSER)
    source = source_of(page)
    _, of_file, content = await api.ask("GET", source)
    _, of_download, _ = await api.ask("GET", f"{source}?download=1")

    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"a &lt;b&gt;secret&lt;/b&gt; &quot;lighthouse&quot;" in page
    assert b"<script" not in page
    assert b"<b>" not in page
    assert content == await api.media.get(image.image_file)
    assert of_file["Content-Type"] == "image/png"
    assert of_download["Content-Disposition"] == 'attachment; filename="a-b-secret-b-lighthouse-7.png"'
    for each in (headers, of_file):
        assert each["X-Robots-Tag"] == "noindex, nofollow, noarchive"
        assert each["Referrer-Policy"] == "no-referrer"
        assert each["Cache-Control"] == "private, no-cache"
    assert re.fullmatch(
        r"default-src 'none'; img-src 'self'; style-src 'sha256-[^']{44}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
        headers["Content-Security-Policy"],
    )


@pytest.mark.parametrize("image_format", Format)
async def test_a_link_that_hides_the_prompt(api, image_format):
    """Neither page nor headers nor file have a word of it; the pixels are those of the stored file."""
    image = await api.add(image_format=image_format)
    made = await api.share(image)

    _, _, page = await api.ask("GET", made["url"], headers=BROWSER)
    source = source_of(page)
    _, headers, content = await api.ask("GET", f"{source}?download=1")
    stored = await api.media.get(image.image_file)

    said = page + content + str(headers).encode()
    for word in ("secret", "lighthouse", "Steps", "sdxl"):
        for encoding in ("utf-8", "utf-16-be", "utf-16-le"):
            assert word.encode(encoding) not in said
    assert b"Steps" in stored or "Steps".encode("utf-16-be") in stored
    assert Image.open(io.BytesIO(content)).tobytes() == Image.open(io.BytesIO(stored)).tobytes()
    assert b"trainedAlgorithmicMedia" in content
    assert headers["Content-Type"] == f"image/{image_format}"
    assert headers["Content-Disposition"] == f'attachment; filename="picture.{image_format.extension}"'
    assert b'alt="A generated picture, 64' in page


@pytest.mark.parametrize("shows", [True, False])
async def test_a_revoked_link_ends_for_a_browser_with_the_file(api, shows):
    image = await api.add()
    made = await api.share(image, showPrompt=shows)
    source = source_of((await api.ask("GET", made["url"], headers=BROWSER))[2])
    _, headers, content = await api.ask("GET", source)
    again = {"If-None-Match": headers["ETag"]}

    assert (await api.ask("GET", source, headers=again))[0] == 304
    head = await api.ask("HEAD", source)
    assert (head[0], head[1]["Content-Length"], head[2]) == (200, str(len(content)), b"")
    assert (await api.ask("HEAD", made["url"]))[0] == 200
    assert (await api.ask("DELETE", f"/api/images/{image.id}/shares/{made['id']}/"))[0] == 204

    status, _, problem = await api.ask("GET", source, headers=again)
    assert (status, problem["code"]) == (410, "share_revoked")
    assert (await api.ask("HEAD", made["url"]))[0] == 410
    status, _, problem = await api.ask("DELETE", f"/api/images/{image.id}/shares/{made['id']}/")
    assert (status, problem["code"]) == (404, "share_not_found")


async def test_a_link_ends_with_its_time_or_its_picture(api):
    """Expired, deleted, purged, replaced by an image of the same id, or forged: a page for browsers, else a problem."""
    images = [await api.add() for _ in range(4)]
    made = [(await api.share(image, expiresIn=24 * HOUR_S))["url"] for image in images]
    expiring = (await api.share(images[0], expiresIn=60))["url"]
    api.clock.advance(60)
    await api.ask("DELETE", f"/api/images/{images[1].id}/")
    await change(api.store, images[2].id, lambda image: transitions.delete(image, now=api.clock.now()))
    purged = await api.store.get(images[3].id)
    await api.store.remove(purged)
    cases = {
        expiring: (410, "share_expired", b"has expired"),
        made[1]: (410, "share_deleted", b"was deleted"),
        made[2]: (410, "share_deleted", b"was deleted"),
        made[3]: (410, "share_deleted", b"was deleted"),
        FORGED: (404, "share_not_found", b"does not exist"),
        f"{made[0]}x": (404, "share_not_found", b"does not exist"),
    }

    for url, (expected, code, text) in cases.items():
        status, headers, page = await api.ask("GET", url, headers=BROWSER)
        assert (status, headers["Content-Type"]) == (expected, "text/html; charset=utf-8")
        assert text in page
        assert "sha256-" in headers["Content-Security-Policy"]
        status, _, problem = await api.ask("GET", url)
        assert (status, problem["code"]) == (expected, code)
        assert (await api.ask("GET", f"{url}/image.png"))[2]["code"] == code
    assert (await api.ask("GET", made[0]))[0] == 200
    assert (await api.ask("GET", f"{made[0]}/image.webp"))[2]["code"] == "file_not_found"

    await api.store.insert(images[3].model_copy(update={"created_at": api.clock.now()}))
    assert (await api.ask("GET", made[3]))[2]["code"] == "share_revoked"


async def test_the_owner_sees_the_links_that_work(api):
    image, empty = await api.add(), await api.add()
    brief = await api.share(image, expiresIn=60)
    lasting = await api.share(image, showPrompt=True)
    _, _, both = await api.ask("GET", f"/api/images/{image.id}/shares/")
    api.clock.advance(60)
    _, _, one = await api.ask("GET", f"/api/images/{image.id.upper()}/shares/")
    _, _, none = await api.ask("GET", f"/api/images/{empty.id}/shares/")

    assert both == {"shares": [brief, lasting], "limit": MAX_LINKS, "canHidePrompt": True}
    assert one["shares"] == [lasting]
    assert none["shares"] == []
    assert (lasting["createdAt"], lasting["expiresAt"]) == ("2025-01-15T12:00:00.000Z", "2025-01-15T13:00:00.000Z")
    assert lasting["showPrompt"]


async def test_a_signed_file_is_shared_with_its_prompt_only(api):
    image = await api.add(png_with(png_chunk(b"caBX", b"a manifest")))

    refused = await api.ask("POST", f"/api/images/{image.id}/shares/", json={"expiresIn": 60})
    shown = await api.share(image, showPrompt=True)
    _, _, listed = await api.ask("GET", f"/api/images/{image.id}/shares/")

    assert (refused[0], refused[2]["code"]) == (400, "cannot_hide_prompt")
    assert "C2PA" in refused[2]["fields"]["showPrompt"]
    assert not listed["canHidePrompt"]
    assert listed["shares"] == [shown]
    _, _, content = await api.ask("GET", f"{shown['url']}/image.png")
    assert content == await api.media.get(image.image_file)


async def test_what_cannot_be_shared_is_refused(api):
    """Another owner's, an unknown, an unfinished or a lost picture; odd times; the twenty-first link."""
    lost, others, queued = await api.add(), await api.add(owner="another"), an_image()
    await api.media.remove([lost.image_file])
    await api.store.insert(queued)
    image = await api.add()

    async def code(image_id, **body):
        status, headers, problem = await api.ask(
            "POST", f"/api/images/{image_id}/shares/", json={"expiresIn": 60, **body}
        )
        return status, problem.get("code"), headers.get("Retry-After")

    assert await code(others.id) == (404, "image_not_found", None)
    assert await code(new_image_id(NOON)) == (404, "image_not_found", None)
    assert await code(queued.id) == (409, "not_completed", None)
    assert await code(lost.id) == (404, "file_lost", None)
    for bad in (
        {"expiresIn": 59},
        {"expiresIn": 30 * 86_400 + 1},
        {"expiresIn": "60"},
        {"expiresIn": 60.5},
        {"more": 1},
    ):
        assert (await code(image.id, **bad))[:2] == (400, "invalid_request")
    made = await asyncio.gather(*(code(image.id, show_prompt=True) for _ in range(MAX_LINKS)))
    assert {status for status, *_ in made} == {201}
    assert await code(image.id) == (429, "share_limit", "60")
    assert await code((await api.add()).id, expiresIn=60.0) == (201, None, None)


@pytest.mark.parametrize("settings", [{"API_PORT": "0"}])
async def test_without_the_setting_every_route_is_off(api):
    image = await api.add()
    for method, path in (
        ("POST", f"/api/images/{image.id}/shares/"),
        ("GET", f"/api/images/{image.id}/shares/"),
        ("DELETE", f"/api/images/{image.id}/shares/x/"),
        ("GET", FORGED),
        ("GET", f"{FORGED}/image.png"),
    ):
        status, _, problem = await api.ask(method, path, headers=BROWSER)
        assert (status, problem["code"], problem["detail"]) == (404, "share_links_off", "SHARE_LINKS is off")
    assert (await api.ask("GET", "/api/models/"))[2]["features"] == []


@pytest.mark.parametrize("settings", [{**SETTINGS, "PUBLIC_URL": "https://host.example/draw/"}])
async def test_below_a_path_the_url_is_that_of_browsers(api):
    made = await api.share(await api.add())
    path = made["url"].removeprefix("https://host.example")

    for spelling in (path, path.removeprefix("/draw")):
        _, _, page = await api.ask("GET", spelling, headers=BROWSER)
        assert source_of(page) == f"{path}/image.png"
    assert (await api.ask("GET", f"{path}/image.png"))[0] == 200
    assert (await api.ask("GET", "/api/models/"))[2]["features"] == ["share_links"]


def test_share_links_need_a_signing_key():
    with pytest.raises(Misconfigured, match="MEDIA_SIGNING_KEYS: required with SHARE_LINKS"):
        require_valid_identity(read_settings({"SHARE_LINKS": "true"}))


async def test_requests_at_once_share_one_copy(api):
    made = await api.share(await api.add())
    answers = await asyncio.gather(*(api.ask("GET", f"{made['url']}/image.png") for _ in range(20)))

    assert len({content for _, _, content in answers}) == 1
    assert {status for status, *_ in answers} == {200}


async def test_many_copies_that_are_sent_refuse_another(tmp_path):
    """A client may take minutes for one. A copy of the same picture is shared, and one that was sent makes room."""
    async with FileMedia.open(tmp_path) as media:
        keys = [f"generated_images/2026/01/{new_image_id(NOON)}.png" for _ in range(MOST + 1)]
        for key in keys:
            await media.put(key, encoded("PNG"))
        pictures = BarePictures(media)
        sent = [await pictures.get(key) for key in keys[:MOST]]

        assert await pictures.get(keys[0]) is sent[0]
        with pytest.raises(Unavailable):
            await pictures.get(keys[MOST])
        del sent[0]
        assert await pictures.get(keys[MOST])


async def test_links_are_listed_while_the_media_are_away(api, monkeypatch):
    """So that they can be revoked."""
    image = await api.add()
    made = await api.share(image)

    async def away(*_):
        raise Unavailable("media", "away")

    monkeypatch.setattr(api.media, "get", away)
    status, _, listed = await api.ask("GET", f"/api/images/{image.id}/shares/")

    assert (status, [share["id"] for share in listed["shares"]]) == (200, [made["id"]])


async def test_a_link_is_not_logged(api, monkeypatch, caplog):
    made = await api.share(await api.add())

    async def broken(*_):
        raise RuntimeError("out of order")

    monkeypatch.setattr(api.store, "get", broken)
    status, _, problem = await api.ask("GET", made["url"])

    assert (status, problem["code"]) == (500, "internal")
    assert "GET /share/{token} from" in caplog.text
    assert made["url"].rpartition("/")[2] not in caplog.text
