"""`GET /media/…`: pictures and thumbnails, to their owner only, as plain files with ranges and validators."""

from __future__ import annotations

import logging
import re
from typing import Final

from aiohttp import web

from common.domain.errors import NotFound
from common.domain.images import Format, Image
from services.api.context import Call, Operation

log = logging.getLogger(__name__)

_KEY: Final = re.compile(
    r"(?:generated_images|thumbnails)/\d{4}/\d{2}/(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-\d+)?"
    r"\.(?P<extension>png|jpg|webp)"
)
_TYPES: Final = {each.extension: f"image/{each}" for each in Format}
# the bytes under a key never change; private, for a shared cache does not know whose they are
_CACHE: Final = "private, max-age=31536000, immutable"


async def get(call: Call) -> web.StreamResponse:
    """The file of an image of this owner. The key is only compared with the record's, never made into a path."""
    key = call.request.match_info["key"]
    match = _KEY.fullmatch(key)
    image = await call.context.store.get(match["id"]) if match else None
    if match is None or image is None or not _may_see(call, image) or key not in {image.image_file, image.thumbnail}:
        raise NotFound("there is no such file", code="file_not_found")
    headers = {"Cache-Control": _CACHE, "X-Content-Type-Options": "nosniff"}
    content_type = _TYPES[match["extension"]]
    path = call.context.media.path(key)
    if path is not None and path.is_file():
        headers["Content-Type"] = content_type
        return web.FileResponse(path, headers=headers)
    content = await call.context.media.get(key)
    if content is None:
        log.error("the file of image %s is missing: the next sweep mends its record", image.id)
        raise NotFound("the file was lost", code="file_lost")
    return web.Response(body=content, content_type=content_type, headers=headers)


OPERATIONS: Final = [
    Operation(
        "GET",
        "/media/{key:.+}",
        get,
        "A picture or thumbnail",
        answers={200: None, 206: None, 304: None},
        problems=(401, 404, 413, 416, 503),
        instead_of_header="signature",
        media_types=tuple(_TYPES.values()),
    )
]


def _may_see(call: Call, image: Image) -> bool:
    """A signature is of this very file; who got the URL got it from its owner."""
    return call.is_signed or image.owner == call.owner
