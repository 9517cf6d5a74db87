"""`GET /docs`: the REST contract as a page to read and to try. Its files are vendored: nothing else is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

from common.domain.errors import NotFound
from services.api.context import Call, Operation

_FOLDER: Final = Path(__file__).parents[1] / "docs_page"
_INDEX: Final = _FOLDER / "index.html"
# the only names there are: none is made into a path
_FILES: Final = {
    "start.js": _FOLDER / "start.js",
    "swagger-ui.css": _FOLDER / "vendor" / "swagger-ui.css",
    "swagger-ui-bundle.js": _FOLDER / "vendor" / "swagger-ui-bundle.js",
}
_TYPES: Final = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def page(_call: Call) -> web.FileResponse:
    """The page itself."""
    return _sent(_INDEX)


async def file(call: Call) -> web.FileResponse:
    """A file of the page."""
    path = _FILES.get(call.request.match_info["name"])
    if path is None:
        raise NotFound("the page has no such file", code="file_not_found")
    return _sent(path)


OPERATIONS: Final = [
    Operation("GET", "/docs", page, "The contract as a page", answers={200: None}, is_public=True),
    Operation("GET", "/docs/{name}", file, "A file of that page", answers={200: None}, is_public=True),
]


def _sent(path: Path) -> web.FileResponse:
    return web.FileResponse(
        path,
        headers={
            "Content-Type": _TYPES[path.suffix],
            "Content-Security-Policy": _POLICY,
            "Cache-Control": "no-cache",  # the names carry no version: asked for again, answered by 304
        },
    )
