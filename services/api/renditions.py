"""Renditions: smaller copies of a picture, made when a page first asks for one and stored beside the picture.

    GET ─▶ is it stored? ─▶ no ─▶ read the picture ─▶ shrink ─▶ store ─▶ is the image still there? ─▶ answer

Each picture has at most one rendition of each width. They are removed with the picture.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from common.domain.errors import Unavailable
from common.domain.images import RENDITION_WIDTHS, Image, rendition_keys
from common.media.port import Media
from common.runtime.logs import image_fields
from common.store.port import Store
from services.api.conversion import PictureConverter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Renditions:
    store: Store
    media: Media
    converter: PictureConverter

    async def make(self, image: Image, key: str) -> bytes | None:
        """The rendition under this key of the image; None if the picture is lost, or was deleted meanwhile.

        Raises:
            Invalid: `too_large`, the picture has more pixels than MAX_IMAGE_PIXELS allows now.
        """
        picture_key = image.image_file
        if picture_key is None or image.deleted_at is not None:
            return None
        width = dict(zip(rendition_keys(image), RENDITION_WIDTHS, strict=True))[key]
        content = await self.converter.shrink(lambda: self.media.get(picture_key), width)
        return content if content is not None and await self._store(image, key, content) else None

    async def _store(self, image: Image, key: str, content: bytes) -> bool:
        """Store the rendition; returns whether the image is still there."""
        try:
            await self.media.put(key, content)
        except Unavailable as error:  # it can be shown all the same
            fields = image_fields(image.id, image.traceparent)
            log.warning("a rendition of image %s is not stored: %s", image.id, error, extra=fields)
            return True
        # the picture may have been deleted while it was shrunk: a delete that came before the write missed the file
        current = await self.store.get(image.id)
        if current is not None and current.deleted_at is None and current.image_file == image.image_file:
            return True
        await self.media.remove([key])
        return False
