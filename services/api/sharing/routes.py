"""The routes with which an owner makes, lists and revokes the links of a picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.domain.errors import Invalid, InvalidTransition, NotFound, Unavailable
from common.domain.images import Image, Status, parse_image_id
from common.provenance.found import Unmarkable
from common.store.port import Store
from services.api.context import Context
from services.api.routes.images import require_owned
from services.api.routes.operation import NO_INPUT, Call, Operation, PlainCall, RouteGroup, answer, body_of
from services.api.sharing.bare_pictures import BarePictures
from services.api.sharing.links import MAX_LINKS, ShareLink, ShareLinks
from services.api.sharing.schema import ShareAnswer, ShareRequest, SharesAnswer
from services.api.sharing.tokens import ShareClaim, ShareTokens

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShareRoutes:
    store: Store
    links: ShareLinks
    tokens: ShareTokens
    bare: BarePictures
    base_url: str

    @classmethod
    def of(cls, context: Context) -> ShareRoutes:
        settings = context.settings
        links = ShareLinks(context.store, context.clock)
        base_url = (settings.public_url or "").rstrip("/")
        return cls(context.store, links, ShareTokens(settings), BarePictures(context.media), base_url)

    async def create(self, call: Call[None, ShareRequest]) -> web.Response:
        """Makes a link to a completed picture, which works without an account until it expires or is revoked."""
        image = await self._picture(call)
        if not call.body.show_prompt:
            await self._require_bare(image)
        elif not await self.bare.exists(image.image_file or ""):
            raise NotFound("the file was lost", code="file_lost")
        link = await self.links.add(image, lifetime_s=call.body.expires_in, shows_prompt=call.body.show_prompt)
        return answer(self._answer(image, link), status=201)

    async def list(self, call: PlainCall) -> web.Response:
        """Lists the links of a picture that work now."""
        image = await self._picture(call)
        can_hide = True
        try:
            can_hide = await self.bare.has_copy(image.image_file or "")
        except Unavailable as error:  # a link can be revoked all the same
            log.debug("nothing is known of the copy of image %s: %s", image.id, error)
        shares = [self._answer(image, link) for link in await self.links.of(image)]
        return answer(SharesAnswer(shares=shares, limit=MAX_LINKS, can_hide_prompt=can_hide))

    async def revoke(self, call: PlainCall) -> web.Response:
        """Revokes a link, from the next request on."""
        await self.links.revoke(await self._picture(call), call.request.match_info["shareId"])
        return web.Response(status=204)

    async def _picture(self, call: PlainCall | Call[None, ShareRequest]) -> Image:
        image_id = parse_image_id(call.image_id)
        image = require_owned(await self.store.get(image_id), call.owner, image_id)
        if image.status is not Status.COMPLETED:
            detail = f"only a completed picture can be shared; image {image_id} is {image.status}"
            raise InvalidTransition(detail, status=image.status, code="not_completed")
        return image

    async def _require_bare(self, image: Image) -> None:
        """
        Raises:
            Invalid: the file has no copy without its settings.
            NotFound: the file is lost.
        """
        try:
            bare = await self.bare.get(image.image_file or "")
        except Unmarkable as error:
            reason = f"the prompt cannot be hidden: the file has no copy without its settings, because {error}"
            raise Invalid(reason, code="cannot_hide_prompt", fields={"showPrompt": reason}) from error
        if bare is None:
            raise NotFound("the file was lost", code="file_lost")

    def _answer(self, image: Image, link: ShareLink) -> ShareAnswer:
        token = self.tokens.make(ShareClaim(image.id, link.id, link.expires_at))
        return ShareAnswer(
            id=link.id,
            url=f"{self.base_url}/share/{token}",
            created_at=link.created_at,
            expires_at=link.expires_at,
            show_prompt=link.shows_prompt,
        )


_READ: Final = (400, 401, 404, 409, 413, 503)
_SWITCH: Final = "`404` with `share_links_off` unless `SHARE_LINKS` is on."
OPERATIONS: Final = (
    Operation(
        "images_share",
        "POST",
        "/api/images/{id}/shares/",
        body_of(ShareRequest),
        ShareRoutes.create,
        "Make a link to a picture",
        notes=_SWITCH,
        answers={201: ShareAnswer},
        problems=(403, 406, 408, 415, 429, *_READ),
        needs="share_links",
    ),
    Operation(
        "images_shares",
        "GET",
        "/api/images/{id}/shares/",
        NO_INPUT,
        ShareRoutes.list,
        "List the links to a picture",
        notes=_SWITCH,
        answers={200: SharesAnswer},
        problems=(406, *_READ),
        needs="share_links",
    ),
    Operation(
        "images_unshare",
        "DELETE",
        "/api/images/{id}/shares/{shareId}/",
        NO_INPUT,
        ShareRoutes.revoke,
        "Revoke a link to a picture",
        notes=_SWITCH,
        answers={204: None},
        problems=(403, *_READ),
        needs="share_links",
    ),
)
GROUP: Final = RouteGroup(ShareRoutes.of, OPERATIONS)
