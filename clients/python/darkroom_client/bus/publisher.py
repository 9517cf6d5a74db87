"""Publishes orders and cancels. Each is confirmed by the broker, and kept in an outbox until then if there is one."""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self, Unpack
from uuid import UUID

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractExchange
from aio_pika.exceptions import DeliveryError
from pydantic import ValidationError

from darkroom_client.bus.connection import BusChannel, broker_errors, log
from darkroom_client.bus.outbox import Outbox, StoredMessage
from darkroom_client.errors import BusError, InvalidRequest, NotConfirmed
from darkroom_client.messages import Cancel, CancelImage, Command, GenerateImage, GenerationRequest
from darkroom_client.orders import OrderOptions

EXCHANGE: Final = "image.commands"
CONTENT_TYPE: Final = "application/cloudevents+json"
MAX_BYTES: Final = 65_536  # of a message; the server rejects a larger one
CONFIRM_S: Final = 30.0  # a quorum queue that elects a leader confirms within seconds
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # between two tries; the last again and again
_KEYS: Final = {"image.generate": "generate", "image.cancel": "cancel"}


class BusPublisher:
    """A publisher of the service `source`. Use it in an `async with`.

    With an `outbox`, `order` and `cancel` return when the message is stored; it is sent then, or as soon as the broker
    is there again, also after a restart. Without one they return when the broker has confirmed it. `prefix` is the
    BUS_PREFIX of the deployment.
    """

    def __init__(
        self, url: str, *, source: str, prefix: str = "", outbox: Outbox | None = None, timeout_s: float = 60.0
    ) -> None:
        self._source = source
        self._exchange = prefix + EXCHANGE
        self._outbox = outbox
        self._timeout_s = timeout_s
        self._channel = BusChannel(url, name=source, confirms=True)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._resending: asyncio.Task[None] | None = None

    async def order(
        self, prompt: str, *, owner: str, image_id: str | None = None, **options: Unpack[OrderOptions]
    ) -> str:
        """Order an image for an owner; returns its id.

        Raises:
            InvalidRequest: a field is wrong.
            NotConfirmed: nobody knows whether the broker has it; order again with the same `image_id`.
        """
        return await self.order_batch(prompt, 1, owner=owner, image_id=image_id, **options)

    async def order_batch(
        self, prompt: str, num_images: int, *, owner: str, image_id: str | None = None, **options: Unpack[OrderOptions]
    ) -> str:
        """Order several images at once; returns the id of the first, which is that of the batch. Raises as `order`."""
        image_id = image_id or new_id()
        fields = {"prompt": prompt, **options} | ({"num_images": num_images} if num_images != 1 else {})
        try:
            request = GenerationRequest.model_validate(fields)
        except ValidationError as error:
            wrong = {".".join(map(str, found["loc"])): found["msg"] for found in error.errors(include_url=False)}
            listed = "; ".join(f"{name}: {text}" for name, text in wrong.items())
            raise InvalidRequest(f"the order is not valid: {listed}", code="invalid_request", fields=wrong) from error
        now = datetime.now(UTC)
        await self.publish(GenerateImage(id=image_id, source=self._source, owner=owner, time=now, data=request))
        return image_id

    async def cancel(self, image_id: str, *, owner: str | None = None, batch: bool = False) -> None:
        """Cancel an image that this source ordered, or its batch. Raises as `order`."""
        data = Cancel(batch=True) if batch else Cancel()
        now = datetime.now(UTC)
        await self.publish(
            CancelImage(id=new_id(), source=self._source, subject=image_id, owner=owner, time=now, data=data)
        )

    async def publish(self, message: Command) -> None:
        """Publish a command as it is. Raises as `order`."""
        stored = StoredMessage(message.id, _KEYS[message.type], encode(message))
        if len(stored.body) > MAX_BYTES:
            raise InvalidRequest(f"the message has {len(stored.body)} bytes, at most {MAX_BYTES} are allowed")
        if self._outbox is None:
            await self._send_until_confirmed(stored, self._timeout_s)
            return
        await self._outbox.store(stored)
        self._idle.clear()
        self._wake.set()

    async def flush(self) -> None:
        """Wait until all messages of the outbox are confirmed, for as long as the broker is away."""
        if self._outbox is not None:
            await self._idle.wait()

    async def __aenter__(self) -> Self:
        if self._outbox is not None:
            self._wake.set()  # what an earlier process could not send
            self._resending = asyncio.create_task(self._send_stored(self._outbox))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._resending is not None:
            self._resending.cancel()
            await asyncio.wait([self._resending])
        await self._channel.close()

    async def _send_stored(self, outbox: Outbox) -> None:
        """Send what the outbox holds whenever something is added; never returns."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while messages := await outbox.pending():
                    await asyncio.gather(*(self._send_stored_one(outbox, message) for message in messages))
                    failures = 0
            except Exception as error:  # noqa: BLE001  # of the broker or of the outbox: the messages are stored
                log.warning("messages stay in the outbox: %s", str(error) or type(error).__name__)
                await asyncio.sleep(_pause_s(failures))
                failures += 1
                self._wake.set()
            if not self._wake.is_set():
                self._idle.set()

    async def _send_stored_one(self, outbox: Outbox, message: StoredMessage) -> None:
        await self._send(message)
        await outbox.mark_sent(message.id)

    async def _send_until_confirmed(self, message: StoredMessage, timeout_s: float) -> None:
        ends_at, failures = time.monotonic() + timeout_s, 0
        while True:
            try:
                await self._send(message)
            except BusError as error:
                pause_s = _pause_s(failures)
                if time.monotonic() + pause_s > ends_at:
                    raise NotConfirmed(f"message {message.id}: {error}") from error
                failures += 1
                await asyncio.sleep(pause_s)
            else:
                return

    async def _send(self, message: StoredMessage) -> None:
        """
        Raises:
            BusError: it is not confirmed.
        """
        exchange = await self._open_exchange()
        content = aio_pika.Message(
            message.body,
            message_id=message.id,
            type=f"image.{message.key}",
            app_id=self._source,
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
            timestamp=datetime.now(UTC),
        )
        try:
            async with broker_errors("the connection broke before the confirm"):
                await exchange.publish(content, message.key, mandatory=True, timeout=CONFIRM_S)
        except BusError as error:
            if isinstance(error.__cause__, DeliveryError):
                raise BusError("the broker does not take the message: its queue is full or missing") from error
            raise

    async def _open_exchange(self) -> AbstractExchange:
        channel = await self._channel.open()
        # a publisher may not declare; a missing exchange shows when a message is published
        return await channel.get_exchange(self._exchange, ensure=False)


def encode(message: Command) -> bytes:
    """The body of a command: what was set, so that the server chooses the rest."""
    whole = message.model_copy(update={"specversion": message.specversion, "type": message.type})
    return whole.model_dump_json(by_alias=True, exclude_unset=True).encode()


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): it sorts by time."""
    milliseconds, noise = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (noise >> 68) << 64 | 0b10 << 62 | noise & (1 << 62) - 1
    return str(UUID(int=value))


def _pause_s(failures: int) -> float:
    return PAUSES_S[min(failures, len(PAUSES_S) - 1)] * random.uniform(0.75, 1.25)  # no secret
