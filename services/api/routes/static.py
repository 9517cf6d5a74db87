"""`GET /`: the playground, a static page whose every file is read at the start, and no path is made from a request."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.hdrs import ACCEPT_ENCODING, IF_NONE_MATCH

from common.domain.errors import NotFound
from services.api.context import Call, Operation

FOLDER: Final = Path(__file__).parents[1] / "playground"
_INDEX: Final = "index.html"
_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_SAME_FOR_ALL: Final = {
    # the names carry no version: asked for again at each visit, answered by 304
    "Cache-Control": "no-cache",
    "Vary": ACCEPT_ENCODING,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One file as it is sent, plain and packed."""

    content: bytes
    packed: bytes
    content_type: str
    headers: Mapping[str, str]


PAGES: Final = web.AppKey("pages", dict[str, Page])


def read_pages(media_url: str) -> dict[str, Page]:
    """Every file of the page by its name below the folder; pictures may be shown from where `media_url` points."""
    files = sorted(path for path in FOLDER.rglob("*") if path.suffix in _TYPES)
    policy = _policy(media_url)
    return {path.relative_to(FOLDER).as_posix(): _page(path, policy) for path in files}


async def index(call: Call) -> web.Response:
    """The page itself."""
    return _sent(call, _INDEX)


async def file(call: Call) -> web.Response:
    """A file of the page. Its name is only looked up."""
    return _sent(call, call.request.match_info["file"])


OPERATIONS: Final = [
    Operation("GET", "/", index, "The playground", answers={200: None}, is_public=True),
    Operation(
        "GET",
        "/playground/{file:.+}",
        file,
        "A file of the playground",
        answers={200: None},
        problems=(404,),
        is_public=True,
    ),
]


def _page(path: Path, policy: str) -> Page:
    content = path.read_bytes()
    headers = {**_SAME_FOR_ALL, "ETag": f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'}
    if path.suffix == ".html":
        headers["Content-Security-Policy"] = policy
    return Page(
        content=content,
        packed=gzip.compress(content, mtime=0),
        content_type=_TYPES[path.suffix],
        headers=headers,
    )


def _policy(media_url: str) -> str:
    """What the page may do: speak to this server and show its pictures. A websocket of the same origin is `'self'`."""
    # `data:` is for previews, which come by the websocket as such and have no URL of their own: an image of a data URL
    # runs nothing and asks nobody. `blob:` would do as well, but only with script that makes and revokes each.
    elsewhere = urlsplit(media_url)
    images = f" {elsewhere.scheme}://{elsewhere.netloc}" if elsewhere.netloc else ""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' data:{images}",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


def _sent(call: Call, name: str) -> web.Response:
    request = call.request
    page = request.app[PAGES].get(name)
    if page is None:
        raise NotFound("the playground has no such file", code="file_not_found")
    if page.headers["ETag"] in request.headers.get(IF_NONE_MATCH, ""):
        return web.Response(status=304, headers=page.headers)
    headers = dict(page.headers)
    body = page.content
    if "gzip" in request.headers.get(ACCEPT_ENCODING, ""):
        headers["Content-Encoding"] = "gzip"
        body = page.packed
    return web.Response(body=body, headers=headers, content_type=page.content_type, charset="utf-8")
