"""Static files of a web page, served from memory.

Every file is read at the start and found by its name: no path is made from a request.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.hdrs import ACCEPT_ENCODING, IF_NONE_MATCH

from common.domain.errors import NotFound
from services.api.middleware.compression import accepts_gzip

TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".png": "image/png",
}
_BINARY: Final = frozenset({"image/png"})  # without a charset, and compressed already
_HEADERS: Final = {
    # the names carry no version: a browser asks again at each visit, and is answered with 304
    "Cache-Control": "no-cache",
    "Vary": ACCEPT_ENCODING,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_BASE: Final = b'<base href="/" />'  # in each page; all its URLs are relative to it


@dataclass(frozen=True)
class StaticFile:
    content: bytes
    content_type: str
    headers: Mapping[str, str]

    @cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.content, mtime=0)


class StaticFiles:
    """The files of one page.

    `policy` is the Content-Security-Policy of its HTML, `base_path` is the path below which a proxy serves it.
    """

    def __init__(self, paths: Mapping[str, Path], *, policy: str, base_path: str = "") -> None:
        self._files = {name: _read(path, policy, base_path) for name, path in paths.items()}

    async def response(self, request: web.Request, name: str) -> web.Response:
        """The file, compressed if the client accepts gzip; 304 if it has the file already.

        Raises:
            NotFound: the page has no file of this name.
        """
        file = self._files.get(name)
        if file is None:
            raise NotFound("there is no such file", code="file_not_found")
        if file.headers["ETag"] in request.headers.get(IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=file.headers)
        headers, body = dict(file.headers), file.content
        if file.content_type in _BINARY:
            return web.Response(body=body, headers=headers, content_type=file.content_type)
        if accepts_gzip(request.headers.getall(ACCEPT_ENCODING, [])):
            headers["Content-Encoding"] = "gzip"
            # compressed at the first request: the largest file takes 50 ms, which a start need not wait for
            body = await asyncio.to_thread(lambda: file.compressed)
        return web.Response(body=body, headers=headers, content_type=file.content_type, charset="utf-8")


def _read(path: Path, policy: str, base_path: str) -> StaticFile:
    content = path.read_bytes()
    if path.suffix == ".html":
        content = content.replace(_BASE, f'<base href="{base_path}/" />'.encode())
    headers = {**_HEADERS, "ETag": f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'}
    if path.suffix == ".html":
        headers |= {"Content-Security-Policy": policy, "Cross-Origin-Opener-Policy": "same-origin"}
    return StaticFile(content, TYPES[path.suffix], headers)
