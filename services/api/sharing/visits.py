"""The routes that a visitor of a share link uses: a page with the picture; its file.

Every request reads the entry of the links and the record of the image, so a link ends at once when it is revoked or the
image is deleted. A browser gets a refusal as a page, any other client as a problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from aiohttp import hdrs, web

from common.domain.errors import Gone, NotFound
from common.domain.file_names import content_disposition, picture_name
from common.domain.images import Format, Image, Status
from common.media.port import Media
from common.provenance.found import Unmarkable
from common.runtime.clock import Clock
from common.store.port import Store
from services.api.context import Context
from services.api.middleware.patient_writes import write_all
from services.api.middleware.stored_files import stored_file
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup
from services.api.sharing.bare_pictures import BarePictures
from services.api.sharing.links import ShareLink, ShareLinks
from services.api.sharing.page import picture_page, refusal_page
from services.api.sharing.tokens import ShareTokens

_HEADERS: Final = {
    # a stored answer is asked for again at each use: it may have been revoked
    "Cache-Control": "private, no-cache",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
}
_TYPES: Final = {each.extension: f"image/{each}" for each in Format}
_COPY_VERSION: Final = 1  # to be raised if copies of the same file become others
_HIDDEN_NAME: Final = "picture"


@dataclass(frozen=True, slots=True)
class SharedPicture:
    image: Image
    link: ShareLink
    extension: str


@dataclass(frozen=True, slots=True)
class VisitRoutes:
    store: Store
    media: Media
    clock: Clock
    links: ShareLinks
    tokens: ShareTokens
    bare: BarePictures
    base_path: str

    @classmethod
    def of(cls, context: Context) -> VisitRoutes:
        links, tokens = ShareLinks(context.store, context.clock), ShareTokens(context.settings)
        bare = BarePictures(context.media)
        return cls(context.store, context.media, context.clock, links, tokens, bare, context.settings.base_path)

    async def page(self, call: PlainCall) -> web.Response:
        """Returns a page with the picture of a link, with its prompt if the link shows it."""
        try:
            shared = await self._shared(call)
        except (NotFound, Gone) as error:
            if "text/html" not in call.request.headers.get(hdrs.ACCEPT, ""):
                raise
            return refusal_page(error, status=404 if isinstance(error, NotFound) else 410, headers=_HEADERS)
        source = f"{self.base_path}/share/{call.request.match_info['token']}/image.{shared.extension}"
        return picture_page(shared.image, shared.link, source=source, headers=_HEADERS)

    async def picture(self, call: PlainCall) -> web.StreamResponse:
        """Returns the picture of a link. With `download` in the query, a browser stores it."""
        shared = await self._shared(call)
        if call.request.match_info["extension"] != shared.extension:
            raise NotFound("there is no such file", code="file_not_found")
        headers = {**_HEADERS, "Content-Type": _TYPES[shared.extension]}
        if "download" in call.request.query:
            name = picture_name(shared.image) if shared.link.shows_prompt else f"{_HIDDEN_NAME}.{shared.extension}"
            headers["Content-Disposition"] = content_disposition(name)
        key = shared.image.image_file or ""
        return await (self._stored if shared.link.shows_prompt else self._bare)(call.request, key, headers)

    async def _shared(self, call: PlainCall) -> SharedPicture:
        """
        Raises:
            NotFound: the link was never made.
            Gone: it has expired or was revoked, or the picture was deleted.
        """
        claim = self.tokens.read(call.request.match_info["token"])
        if claim is None:
            raise NotFound("there is no such link", code="share_not_found")
        if claim.expires_at <= self.clock.now():
            raise Gone("this link has expired", code="share_expired")
        image = await self.store.get(claim.image_id)
        if image is None or image.deleted_at is not None or image.status is not Status.COMPLETED:
            raise Gone("the picture was deleted", code="share_deleted")
        link = next((each for each in await self.links.of(image) if each.id == claim.link_id), None)
        if link is None:
            raise Gone("this link was revoked", code="share_revoked")
        return SharedPicture(image, link, (image.image_file or "").rpartition(".")[2])

    async def _stored(self, request: web.Request, key: str, headers: dict[str, str]) -> web.StreamResponse:
        # never by a link to the object store, which would outlive this one
        file = await stored_file(request, self.media, key, headers)
        if file is None:
            raise NotFound("the file was lost", code="file_lost")
        return file

    async def _bare(self, request: web.Request, key: str, headers: dict[str, str]) -> web.StreamResponse:
        # the bytes under a key never change, so its copy need not be made to know that a browser has it
        etag = f"bare-{_COPY_VERSION}-{sha256(key.encode()).hexdigest()[:20]}"
        headers["ETag"] = f'"{etag}"'
        if any(known.value in {etag, "*"} for known in request.if_none_match or ()):
            del headers["Content-Type"]
            return web.Response(status=304, headers=headers)
        try:
            bare = await self.bare.get(key)
        except Unmarkable as error:  # the link was made by an older release, which understood the file
            raise NotFound("the file has no copy without its settings", code="file_not_found") from error
        if bare is None:
            raise NotFound("the file was lost", code="file_lost")
        response = web.StreamResponse(headers=headers)
        response.content_length = len(bare.content)
        await response.prepare(request)
        if request.method != "HEAD":
            await write_all(request, response, bare.content)
        return response


_NOTES: Final = "Needs no credential but the token. `404` with `share_links_off` unless `SHARE_LINKS` is on."
OPERATIONS: Final = (
    Operation(
        "shared_page",
        "GET",
        "/share/{token}",
        NO_INPUT,
        VisitRoutes.page,
        "The page of a share link",
        notes=_NOTES,
        answers={200: None},
        problems=(404, 410, 413, 503),
        is_public=True,
        media_types=("text/html",),
        needs="share_links",
    ),
    Operation(
        "shared_picture",
        "GET",
        "/share/{token}/image.{extension}",
        NO_INPUT,
        VisitRoutes.picture,
        "The picture of a share link",
        notes=_NOTES,
        answers={200: None, 206: None, 304: None},
        problems=(404, 410, 412, 413, 416, 503),
        is_public=True,
        media_types=("image/png", "image/jpeg", "image/webp"),
        needs="share_links",
    ),
)
GROUP: Final = RouteGroup(VisitRoutes.of, OPERATIONS)
