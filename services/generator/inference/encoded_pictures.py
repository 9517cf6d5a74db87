"""Pictures in JSON: base64 text, plain or as a data URL."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from common.domain.errors import BadImage
from services.generator.inference.base64_text import decode_base64
from services.generator.inference.event_stream import LARGE

log = logging.getLogger(__name__)

_MAX_PREVIEW_CHARS: Final = 1_400_000  # a PNG of a megapixel; larger previews are not worth their decoding


async def decoded_picture(text: object, *, max_bytes: int) -> bytes:
    """The bytes of the picture; a large one is decoded in a thread.

    Raises:
        BadImage: there is no text, it is not base64, or it is larger than `max_bytes`.
    """
    if not isinstance(text, str) or not text:
        raise BadImage("the answer of the inference service holds no picture")
    if len(text) > max_bytes * 3 // 2 + 1_000:
        raise BadImage(f"the picture of the inference service has more than {max_bytes} bytes")
    try:
        content = await asyncio.to_thread(decode_base64, text) if len(text) > LARGE else decode_base64(text)
    except ValueError as error:
        raise BadImage("the picture of the inference service is not base64") from error
    if len(content) > max_bytes:
        raise BadImage(f"the picture of the inference service has more than {max_bytes} bytes")
    return content


async def decoded_preview(text: object) -> bytes | None:
    """The bytes of a preview; None if there is none, or it cannot be decoded."""
    if not isinstance(text, str) or not text or len(text) > _MAX_PREVIEW_CHARS:
        return None
    try:
        return await asyncio.to_thread(decode_base64, text) if len(text) > LARGE else decode_base64(text)
    except ValueError as error:
        log.debug("preview ignored: %s", error)
        return None
