"""`AsyncDarkroom`: the client for asyncio. `Darkroom` has the same methods."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from darkroom_client.async_transport import AsyncTransport
from darkroom_client.core import Core
from darkroom_client.events import Event, OneImageEvent
from darkroom_client.files import target_of, write_file
from darkroom_client.listening import HANDSHAKE_S, POLL_S
from darkroom_client.models import HistoryItem, HistoryPage, Image, Limits, Offers
from darkroom_client.operations import HistoryFilters
from darkroom_client.orders import Order, OrderOptions, any_completed, picked
from darkroom_client.pictures import PictureFormat, Wanted
from darkroom_client.retries import Retries


class AsyncDarkroom:
    """A client of one Darkroom server. It may be shared by tasks; close it, or use it in an `async with`.

    Without `url`, DARKROOM_URL and DARKROOM_TOKEN are used, else a server on this machine. `token` and `headers` are
    sent to the origin of `url` alone. `trust_env` lets the proxies of HTTP_PROXY and the like count. Without
    `ssl_context`, SSL_CERT_FILE and SSL_CERT_DIR count in any case. A websocket that does not open within `handshake_s`
    is given up; where there is none, `Handle.events` reads the records every `poll_s`.

    Raises:
        Misconfigured: an argument, a proxy or the certificates cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        retries: Retries | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trust_env: bool = True,
        handshake_s: float = HANDSHAKE_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._core = Core.of(url, token=token, headers=headers, retries=retries, handshake_s=handshake_s, poll_s=poll_s)
        self._transport = AsyncTransport(ssl_context, trust_env=trust_env)

    @property
    def url(self) -> str:
        return self._core.origin.url

    async def generate(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[OrderOptions],
    ) -> Image:
        """Request one image and wait for its picture.

        Raises:
            ImageFailed: it ended without a picture.
            StillWaiting: `timeout_s` passed first; the image goes on.
        """
        order = Order.of(prompt, options, num_images=1, key=idempotency_key)
        return picked(await self._transport.run(self._core.orders.complete(order, timeout_s)))

    async def generate_batch(
        self,
        prompt: str,
        num_images: int,
        *,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[OrderOptions],
    ) -> list[Image]:
        """Request several images with successive seeds, and wait until all have ended.

        Raises:
            ImageFailed: none of them has a picture.
            StillWaiting: `timeout_s` passed first; the images go on.
        """
        order = Order.of(prompt, options, num_images=num_images, key=idempotency_key)
        return any_completed(await self._transport.run(self._core.orders.complete(order, timeout_s)))

    async def submit(
        self, prompt: str, *, num_images: int = 1, idempotency_key: str | None = None, **options: Unpack[OrderOptions]
    ) -> AsyncHandle:
        """Request images without waiting for them."""
        order = Order.of(prompt, options, num_images=num_images, key=idempotency_key)
        return AsyncHandle(self, await self._transport.run(self._core.orders.submit(order)), order)

    async def handle(self, image_id: str) -> AsyncHandle:
        """The handle of an image that was requested before, perhaps by another process."""
        return AsyncHandle(self, [await self.get(image_id)])

    async def get(self, image_id: str) -> Image:
        """The record of an image, in any state."""
        return await self._transport.run(self._core.images.get(image_id))

    async def cancel(self, image_id: str, *, batch: bool = False) -> bool:
        """Cancel an image, or its batch. Whether it is cancelled now; false if it had ended before."""
        return await self._transport.run(self._core.images.cancel(image_id, batch=batch))

    async def delete(self, image_id: str, *, batch: bool = False) -> None:
        """Delete an image with its files, or its batch; an unfinished one is cancelled."""
        await self._transport.run(self._core.images.delete(image_id, batch=batch))

    async def pin(self, image_id: str, *, pinned: bool = True) -> Image:
        """Exempt an image from the purge, or not any more."""
        return await self._transport.run(self._core.images.pin(image_id, pinned=pinned))

    async def history(self, *, per_page: int = 50, **filters: Unpack[HistoryFilters]) -> AsyncIterator[HistoryItem]:
        """All images that match, newest first; pages are fetched as they are needed."""
        cursor: str | None = None
        while True:
            page = await self._transport.run(self._core.images.page(filters, per_page, cursor))
            for image in page.images:
                yield image
            cursor = page.next_cursor
            if cursor is None:
                return

    async def history_page(
        self, *, per_page: int = 20, cursor: str | None = None, **filters: Unpack[HistoryFilters]
    ) -> HistoryPage:
        """One page of the history, with the number of all images that match."""
        return await self._transport.run(self._core.images.page(filters, per_page, cursor))

    async def models(self) -> Offers:
        """What can be requested."""
        return await self._transport.run(self._core.images.models())

    async def limits(self) -> Limits:
        """The limits of the owner, and what is left of them."""
        return await self._transport.run(self._core.images.limits())

    async def download(
        self,
        image: Wanted,
        *,
        format: PictureFormat | None = None,  # noqa: A002  # as everywhere in this field
        quality: int | None = None,
    ) -> bytes:
        """The bytes of a picture; the server converts it if `format` is another one."""
        return await self._transport.run(self._core.pictures.download(image, format, quality))

    async def save(self, image: Wanted, path: str | Path, *, quality: int | None = None) -> Path:
        """Write a picture to a file, whose extension chooses the format. A folder gets `<id>.<extension>`."""
        target, wanted = target_of(image, path)
        content = await self._transport.run(self._core.pictures.download(image, wanted, quality))
        return await asyncio.to_thread(write_file, target, content)

    async def listen(self, after: str | None = None, *, hints: bool = False) -> AsyncGenerator[Event, None]:
        """The events of all images of the owner, for ever; each final event once, over reconnects and replicas.

        Store `event.cursor`, and pass it as `after` to go on where you stopped. `hints` adds queue positions and the
        like.
        """
        listening = self._core.listening(after, hints=hints)
        try:
            while True:
                yield await self._transport.run(listening.next())
        finally:
            await self._transport.run(listening.close())

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncHandle:
    """One request that was accepted. `images` is what is known of its images; usually there is one."""

    def __init__(self, client: AsyncDarkroom, images: list[Image], order: Order | None = None) -> None:
        self.images = images
        self._client = client
        self._order = order

    @property
    def id(self) -> str:
        """The id of the image, of the first if there are several."""
        return self.images[0].id

    @property
    def url(self) -> str:
        """The URL of its record, of the first if there are several."""
        return self._client._core.origin.image(self.id)

    @property
    def idempotency_key(self) -> str | None:
        """The key of the request; None for a handle that was made from an id."""
        return self._order.key if self._order else None

    async def events(self) -> AsyncGenerator[OneImageEvent, None]:
        """The events of its images, from their present state until all have ended."""
        following = self._client._core.following(self.images)
        try:
            while (event := await self._client._transport.run(following.next())) is not None:
                self.images = list(following.images.values())
                yield event
        finally:
            await self._client._transport.run(following.close())

    async def get(self, timeout_s: float | None = None) -> Image:
        """Wait for the picture. Raises as `AsyncDarkroom.generate`."""
        return picked(await self._wait(timeout_s))

    async def get_all(self, timeout_s: float | None = None) -> list[Image]:
        """Wait until all images have ended. Raises as `AsyncDarkroom.generate_batch`."""
        return any_completed(await self._wait(timeout_s))

    async def status(self) -> Image:
        """The present state of the image, of the first if there are several."""
        return await self._client.get(self.id)

    async def cancel(self) -> bool:
        """Cancel all its images. Whether the first is cancelled now; false if it had ended before."""
        return await self._client.cancel(self.id, batch=self.images[0].batch is not None)

    async def _wait(self, timeout_s: float | None) -> list[Image]:
        self.images = await self._client._transport.run(
            self._client._core.orders.wait(self.images, self._order, timeout_s)
        )
        return self.images
