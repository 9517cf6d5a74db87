"""`GET /media/…`: the files of pictures, for their owner only."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from common.domain.errors import NotFound
from common.domain.file_names import content_disposition, picture_name
from common.domain.images import RENDITION_WIDTHS, Format, Image, rendition_keys
from common.media.port import Media, PublicLink
from common.runtime.logs import image_fields
from common.store.port import Store
from services.api import conversion
from services.api.context import Context
from services.api.conversion import PictureConverter
from services.api.middleware.stored_files import stored_file
from services.api.renditions import Renditions
from services.api.routes.operation import NO_INPUT, Operation, PlainCall, RouteGroup

log = logging.getLogger(__name__)

_KEY: Final = re.compile(
    r"(?:generated_images|thumbnails|renditions)/\d{4}/\d{2}/"
    r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-\d+)?(?:\.(?:png|jpg|webp)\.\d{1,4})?"
    r"\.(?P<extension>png|jpg|webp)"
)
_FORMATS: Final = {each.extension: each for each in Format}
_TYPES: Final = {extension: f"image/{each}" for extension, each in _FORMATS.items()}
# the bytes under a key never change; private, because a shared cache does not know who may see them
_CACHE: Final = "private, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class MediaRoutes:
    store: Store
    media: Media
    converter: PictureConverter
    renditions: Renditions

    @classmethod
    def of(cls, context: Context) -> MediaRoutes:
        renditions = Renditions(context.store, context.media, context.converter)
        return cls(context.store, context.media, context.converter, renditions)

    async def get(self, call: PlainCall) -> web.StreamResponse:
        """Returns a picture, its thumbnail or a rendition; with `format`, a picture in another format."""
        # the key is only compared with the record: no path is made from it
        key = call.request.match_info["key"]
        match = _KEY.fullmatch(key)
        image = await self.store.get(match["id"]) if match else None
        if match is None or image is None or not _may_see(call, image):
            raise NotFound("there is no such file", code="file_not_found")
        if key not in {image.image_file, image.thumbnail, *rendition_keys(image)}:
            raise NotFound("there is no such file", code="file_not_found")
        headers = {"Cache-Control": _CACHE, "X-Content-Type-Options": "nosniff"}
        if "download" in call.request.query:
            headers["Content-Disposition"] = content_disposition(_download_name(image, key, call.request.query))
        wanted, quality = _wanted(call.request.query), _quality(call.request.query)
        if wanted is not None and conversion.is_needed(_FORMATS[match["extension"]], wanted, quality):
            return await self._converted(call, image, wanted, quality, headers)
        # a link says neither a name for the file, nor how HEAD is answered
        is_linkable = call.request.method == "GET" and "download" not in call.request.query
        if is_linkable and (link := await self.media.link(key)) is not None:
            return _redirect(link)
        headers["Content-Type"] = _TYPES[match["extension"]]
        file = await stored_file(call.request, self.media, key, headers)
        if file is not None:
            return file
        is_rendition = key not in {image.image_file, image.thumbnail}
        content = await self.renditions.make(image, key) if is_rendition else None
        if content is None:
            raise _lost(image)
        return web.Response(body=content, headers=headers)

    async def _converted(
        self, call: PlainCall, image: Image, wanted: Format, quality: int | None, headers: dict[str, str]
    ) -> web.Response:
        content = await self.media.get(call.request.match_info["key"])
        if content is None:
            raise _lost(image)
        converted = await self.converter.convert(content, wanted, quality=quality)
        return web.Response(body=converted, content_type=f"image/{wanted}", headers=headers)


_NOTES: Final = f"""\
A rendition is the picture as WEBP, at most {" or ".join(map(str, RENDITION_WIDTHS))} pixels wide, made when it is first
asked for. Its URL is that of the picture with `renditions` for `generated_images` and `.<width>.webp` after the name;
the query with the signature stays the same. With `download` in the query, the answer is named by the first words of the
prompt and the seed. With `MEDIA_PUBLIC_ENDPOINT`, other answers are a redirect to the object store."""
OPERATIONS: Final = (
    Operation(
        "files_get",
        "GET",
        "/media/{key:.+}",
        NO_INPUT,
        MediaRoutes.get,
        "Get a picture, its thumbnail or a rendition",
        notes=_NOTES,
        answers={200: None, 206: None, 304: None, 307: None},
        problems=(401, 404, 412, 413, 416, 503),
        other_credential="signature",
        media_types=tuple(_TYPES.values()),
    ),
)
GROUP: Final = RouteGroup(MediaRoutes.of, OPERATIONS)


def _redirect(link: PublicLink) -> web.Response:
    """To the object store. A browser keeps it no longer than the link is valid."""
    headers = {"Location": link.url, "Cache-Control": f"private, max-age={link.fresh_s}"}
    return web.Response(status=web.HTTPTemporaryRedirect.status_code, headers=headers)


def _download_name(image: Image, key: str, query: Mapping[str, str]) -> str:
    wanted = _wanted(query)
    return picture_name(image, wanted.extension if wanted is not None else key.rpartition(".")[2])


def converted_query(wanted: Format, quality: int | None) -> str:
    """The query of a URL under which a picture is served in this format."""
    return f"format={wanted}" + (f"&quality={quality}" if quality is not None else "")


def _wanted(query: Mapping[str, str]) -> Format | None:
    return next((each for each in Format if each == query.get("format")), None)


def _quality(query: Mapping[str, str]) -> int | None:
    text = query.get("quality", "")
    return min(int(text), 100) if re.fullmatch("[0-9]{1,3}", text) else None


def _lost(image: Image) -> NotFound:
    fields = image_fields(image.id, image.traceparent)
    log.error("the file of image %s is missing: the next sweep corrects its record", image.id, extra=fields)
    return NotFound("the file was lost", code="file_lost")


def _may_see(call: PlainCall, image: Image) -> bool:
    """A signature is valid for this file only, and only its owner was given the signed URL."""
    return call.is_signed or image.owner == call.owner
