"""The web pages of the api: the playground at `/`, the status page at `/status`, the OpenAPI document at `/docs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from services.api.context import Context
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup
from services.api.routes.static_files import TYPES, StaticFiles

_INDEX: Final = "index.html"
_PLAYGROUND: Final = Path(__file__).parents[1] / "playground"
_DOCS: Final = Path(__file__).parents[1] / "docs_page"
_STATUS: Final = Path(__file__).parents[1] / "status_page"
_DOCS_FILES: Final = {  # all of them are vendored: the page loads nothing from other hosts
    _INDEX: _DOCS / "index.html",
    "start.js": _DOCS / "start.js",
    "swagger-ui.css": _DOCS / "vendor" / "swagger-ui.css",
    "swagger-ui-bundle.js": _DOCS / "vendor" / "swagger-ui-bundle.js",
}
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
_STATUS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class PageRoutes:
    playground: StaticFiles
    status: StaticFiles
    docs: StaticFiles

    @classmethod
    def of(cls, context: Context) -> PageRoutes:
        base_path = context.settings.base_path
        policy = _playground_policy(context.settings.media_prefix, context.settings.media_public_endpoint or "")
        return cls(
            StaticFiles(_files_below(_PLAYGROUND), policy=policy, base_path=base_path),
            StaticFiles(_files_below(_STATUS), policy=_STATUS_POLICY, base_path=base_path),
            StaticFiles(_DOCS_FILES, policy=_DOCS_POLICY, base_path=base_path),
        )

    async def playground_index(self, call: PlainCall) -> web.Response:
        """Returns the playground."""
        return await self.playground.response(call.request, _INDEX)

    async def playground_file(self, call: PlainCall) -> web.Response:
        """Returns a file of the playground."""
        return await self.playground.response(call.request, call.request.match_info["file"])

    async def status_index(self, call: PlainCall) -> web.Response:
        """Returns the status page; it asks for its data with the rights of its user."""
        return await self.status.response(call.request, _INDEX)

    async def status_file(self, call: PlainCall) -> web.Response:
        """Returns a file of the status page."""
        return await self.status.response(call.request, call.request.match_info["name"])

    async def docs_index(self, call: PlainCall) -> web.Response:
        """Returns the OpenAPI document as a page to read and to try."""
        return await self.docs.response(call.request, _INDEX)

    async def docs_file(self, call: PlainCall) -> web.Response:
        """Returns a file of the documentation page."""
        return await self.docs.response(call.request, call.request.match_info["name"])


OPERATIONS: Final = (
    Operation(
        "pages_index",
        "GET",
        "/",
        NO_INPUT,
        PageRoutes.playground_index,
        "The playground",
        answers={200: None},
        is_public=True,
    ),
    Operation(
        "pages_file",
        "GET",
        "/playground/{file:.+}",
        NO_INPUT,
        PageRoutes.playground_file,
        "A file of the playground",
        answers={200: None},
        problems=(404,),
        is_public=True,
    ),
    Operation(
        "status_page",
        "GET",
        "/status",
        NO_INPUT,
        PageRoutes.status_index,
        "The status page",
        answers={200: None},
        is_public=True,
    ),
    Operation(
        "status_file",
        "GET",
        "/status/{name}",
        NO_INPUT,
        PageRoutes.status_file,
        "A file of the status page",
        answers={200: None},
        is_public=True,
    ),
    Operation(
        "swagger_page",
        "GET",
        "/docs",
        NO_INPUT,
        PageRoutes.docs_index,
        "The documentation page",
        answers={200: None},
        is_public=True,
    ),
    Operation(
        "swagger_file",
        "GET",
        "/docs/{name}",
        NO_INPUT,
        PageRoutes.docs_file,
        "A file of the documentation page",
        answers={200: None},
        is_public=True,
    ),
)
GROUP: Final = RouteGroup(PageRoutes.of, OPERATIONS)


def _files_below(folder: Path) -> dict[str, Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in TYPES)
    return {path.relative_to(folder).as_posix(): path for path in files}


def _playground_policy(*media_urls: str) -> str:
    """The page may connect to this server and show pictures from `media_urls`. `'self'` includes websockets."""
    # `data:` is for previews: they come by the websocket as data URLs. An image of a data URL runs no script and
    # causes no request. `blob:` would work as well, but needs script that creates and revokes each URL.
    split = [urlsplit(url) for url in media_urls]
    media_hosts = "".join(f" {parts.scheme}://{parts.netloc}" for parts in split if parts.netloc)
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' data:{media_hosts}",
            "connect-src 'self'",
            "manifest-src 'self'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )
