"""The pictures of an answer, in the format that the client wants: as base64 or as the URL of the file."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import urljoin

from aiohttp import web

from common.domain.errors import NotFound
from common.domain.images import Format, Image
from services.api import conversion
from services.api.context import Context
from services.api.middleware.client_address import base_url
from services.api.routes.media import converted_query


@dataclass(frozen=True, slots=True)
class PictureForm:
    """How a client wants its pictures; `quality`, 0 to 100, counts for JPEG and WEBP."""

    format: Format
    quality: int | None
    as_url: bool

    @property
    def asked(self) -> Format | None:
        """What the inference service is asked for: a lossless picture, if it has to be compressed here."""
        return self.format if self.format is not Format.PNG and self.quality is None else None


async def encoded(context: Context, image: Image, form: PictureForm) -> bytes:
    """The picture in base64.

    Raises:
        NotFound: `file_lost`.
    """
    content = await context.media.get(image.image_file) if image.image_file is not None else None
    if content is None:
        raise NotFound("The file of the picture was lost.", code="file_lost")
    return await converted(context, content, image.format, form)


async def converted(context: Context, content: bytes, stored: Format | None, form: PictureForm) -> bytes:
    """Picture bytes in the wanted format, in base64."""
    if conversion.is_needed(stored, form.format, form.quality):
        content = await context.converter.convert(content, form.format, quality=form.quality)
    return await asyncio.to_thread(b64encode, content)


def url(context: Context, request: web.Request, image: Image, form: PictureForm) -> str:
    """The absolute URL of the picture, signed with identity."""
    base = base_url(request)
    if image.image_file is not None and conversion.is_needed(image.format, form.format, form.quality):
        # by the api itself: another server of MEDIA_URL has the stored format only
        parts = [context.signing.query(image.image_file), converted_query(form.format, form.quality)]
        return f"{base}/media/{image.image_file}?{'&'.join(filter(None, parts))}"
    return urljoin(f"{base}/", context.presenter.view(image).image_url or "")


async def element(context: Context, request: web.Request, image: Image, form: PictureForm) -> bytes:
    """One element of `data` as JSON.

    Raises:
        NotFound: `file_lost`.
    """
    if form.as_url:
        return json.dumps({"url": url(context, request, image, form)}).encode()
    # base64 needs no escapes, and a large text is not copied once more
    return b'{"b64_json":"' + await encoded(context, image, form) + b'"}'
