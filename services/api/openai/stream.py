"""An order as server-sent events: partial images from previews, comments while nothing happens, then the picture.

: waiting
event: image_generation.partial_image
event: image_generation.completed   or   event: error
data: [DONE]
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from common.domain.errors import ServiceError
from common.domain.images import Format, Image
from common.messages import ImageProgressed
from services.api.context import Context
from services.api.events.live import ClientEvent
from services.api.events.waits import Disconnected
from services.api.openai import orders, pictures
from services.api.openai.errors import envelope, envelope_for
from services.api.openai.orders import OrderFailure
from services.api.openai.pictures import PictureForm
from services.api.openai.repeats import OpenOrder
from services.api.openai.schema import TokenUsage

log = logging.getLogger(__name__)

COMMENT_S: Final = 5.0  # far below the idle limits of proxies (nginx: 60 s)
WRITE_S: Final = 60.0  # longest wait for a client that reads slowly, for each chunk
_CHUNK: Final = 65_536
_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_USAGE: Final = TokenUsage().model_dump()


class PartialImages:
    """Chooses at most `most` of the previews of one image, spread over its painting.

    The i-th is sent once i/most of the steps are done. What is left at the end is sent before the picture, as a client
    may count on the number that it asked for.
    """

    def __init__(self, image_id: str, most: int) -> None:
        self.news = asyncio.Event()
        self.sent = 0
        self._image_id = image_id
        self._most = most
        self._kept: deque[tuple[float, str]] = deque(maxlen=most)

    def on_event(self, client_event: ClientEvent) -> None:
        event = client_event.event
        if event.subject == self._image_id and isinstance(event, ImageProgressed) and event.data.preview is not None:
            self._kept.append((event.data.step / max(event.data.steps, 1), event.data.preview))
            self.news.set()

    def take(self, *, is_last: bool = False) -> bytes | None:
        """The next preview to send, as a WEBP; None if none is due."""
        if not self._kept or self.sent >= self._most:
            return None
        if is_last:
            _, preview = self._kept.popleft()
        elif self._kept[-1][0] * self._most < self.sent:
            return None
        else:
            _, preview = self._kept.pop()
            self._kept.clear()  # an older one would be a step back
        self.sent += 1
        return b64decode(preview.partition(",")[2])


@dataclass(frozen=True, slots=True)
class OrderStream:
    """The stream of one request; `size` is that of the order."""

    context: Context
    request: web.Request
    form: PictureForm
    size: str
    response: web.StreamResponse

    @classmethod
    async def open(cls, context: Context, request: web.Request, form: PictureForm, size: str) -> OrderStream:
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        await response.write(b": waiting\n\n")
        return cls(context, request, form, size, response)

    async def run(self, images: Sequence[Image], partials: PartialImages, order: OpenOrder) -> None:
        """Send events until the order has ended."""
        try:
            await self._send_end(await self._follow(images, partials), order)
        except (Disconnected, ConnectionError):
            raise
        except ServiceError as error:
            await self._send("error", {"type": "error", **envelope_for(error)})
        except Exception:  # the head is sent: the error is an event
            log.exception("a stream failed")
            message = "an internal error occurred; it is logged"
            await self._send("error", {"type": "error", **envelope(500, "internal", message)})
        await send(self.request, self.response, b"data: [DONE]\n\n")
        await self.response.write_eof()

    async def _follow(self, images: Sequence[Image], partials: PartialImages) -> list[Image] | OrderFailure:
        waiting = asyncio.create_task(orders.ended(self.context, self.request, images))
        waiting.add_done_callback(lambda _: partials.news.set())
        try:
            while not waiting.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(COMMENT_S):
                        await partials.news.wait()
                partials.news.clear()
                if not waiting.done() and not await self._send_partial(partials):
                    await send(self.request, self.response, b": waiting\n\n")
            result = await waiting
        finally:
            waiting.cancel()
        while isinstance(result, list) and await self._send_partial(partials, is_last=True):
            pass
        return result

    async def _send_partial(self, partials: PartialImages, *, is_last: bool = False) -> bool:
        index, preview = partials.sent, partials.take(is_last=is_last)
        if preview is None:
            return False
        text = await pictures.converted(self.context, preview, Format.WEBP, self.form)
        await self._send_picture("image_generation.partial_image", text, {"partial_image_index": index})
        return True

    async def _send_end(self, result: list[Image] | OrderFailure, order: OpenOrder) -> None:
        if isinstance(result, OrderFailure):
            await order.answered()
            failed = envelope(result.status, result.code, result.message)
            await self._send("error", {"type": "error", **failed})
            return
        text = await pictures.encoded(self.context, result[0], self.form)
        await self._send_picture("image_generation.completed", text, {"usage": _USAGE}, order)

    async def _send_picture(self, name: str, text: bytes, more: dict[str, Any], order: OpenOrder | None = None) -> None:
        """One event; it is the end of this order, if one is given."""
        fields = {
            "type": name,
            "created_at": int(self.context.clock.now().timestamp()),
            "size": self.size,
            "quality": "auto",
            "background": "auto",
            "output_format": self.form.format,
            **more,
        }
        # base64 needs no escapes, and a large text is not copied once more
        head = json.dumps(fields)[:-1].encode()
        await send(self.request, self.response, b"event: " + name.encode() + b"\ndata: " + head + b', "b64_json": "')
        await send(self.request, self.response, text)
        if order is not None:
            await order.answered()
        await send(self.request, self.response, b'"}\n\n')

    async def _send(self, name: str, data: dict[str, Any]) -> None:
        await send(self.request, self.response, f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())


async def send(request: web.Request, response: web.StreamResponse, content: bytes) -> None:
    """Write in chunks, so that a client may be slow as long as it reads.

    Raises:
        Disconnected: it has not read for WRITE_S; its connection is closed.
        ConnectionError: it has left.
    """
    for start in range(0, len(content), _CHUNK):
        try:
            async with asyncio.timeout(WRITE_S):
                await response.write(content[start : start + _CHUNK])
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise Disconnected from None
