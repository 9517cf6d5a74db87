"""Publishing with confirms on a channel of aiormq.

aiormq's `basic_publish` encodes the names of exchange and key anew for each message, and holds a lock until the message
is written. Here any number of messages is written at once, in their order, and each gets its own confirm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

from aiormq.abc import AbstractChannel as RawChannel
from aiormq.abc import ChannelFrame
from pamqp import frame
from pamqp.commands import Basic
from pamqp.constants import FRAME_BODY, FRAME_END_CHAR
from pamqp.header import ContentHeader

_HEAD: Final = Struct(">BHI")  # type, channel and size of a frame (AMQP 0-9-1, 4.2.3)


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message for the broker; its properties have a `message_id`, by which a returned message is found."""

    body: bytes
    properties: Basic.Properties

    @property
    def id(self) -> str:
        return self.properties.message_id or ""


class ConfirmingChannel:
    """Writes messages to a channel with confirms that nothing else publishes on."""

    def __init__(self, raw: RawChannel) -> None:
        self._raw: Any = raw  # with what aiormq 7.2.4 has beside the abstract class
        self._methods: dict[tuple[str, str], bytes] = {}

    async def write(self, exchange: str, key: str, messages: Sequence[OutgoingMessage]) -> list[asyncio.Future[Any]]:
        """Write the messages; returns a future for each, which ends as `basic_publish` of aiormq does.

        Raises:
            ChannelInvalidStateError: the channel is closed; nothing is written.
        """
        raw = self._raw
        payload = b"".join([part for message in messages for part in self._frames(exchange, key, message)])
        async with raw.lock:  # raises if the channel is closed; aiormq's other requests take it too
            confirms = [self._expect_confirm(message.id) for message in messages]
            written = ChannelFrame(payload=payload, should_close=False)
            try:
                # the queue is short: while it is full, the messages that follow wait for the lock
                await raw.write_queue.put(written)
            except BaseException:
                for message, confirm in zip(messages, confirms, strict=True):
                    confirm.cancel()
                    raw.confirmations.pop(raw.delivery_tag, None)
                    raw.message_id_delivery_tag.pop(message.id, None)
                    raw.delivery_tag -= 1  # the broker counts what it has seen
                raise
        return confirms

    def _expect_confirm(self, message_id: str) -> asyncio.Future[Any]:
        raw = self._raw
        raw.delivery_tag += 1
        confirm: asyncio.Future[Any] = raw.create_future()  # which fails when the channel is closed
        raw.confirmations[raw.delivery_tag] = confirm
        raw.message_id_delivery_tag[message_id] = raw.delivery_tag
        confirm.add_done_callback(lambda _: raw.message_id_delivery_tag.pop(message_id, None))
        return confirm

    def _frames(self, exchange: str, key: str, message: OutgoingMessage) -> list[bytes]:
        raw = self._raw
        method = self._methods.get((exchange, key))
        if method is None:
            method = frame.marshal(Basic.Publish(exchange=exchange, routing_key=key, mandatory=True), raw.number)
            self._methods[exchange, key] = method
        body = message.body
        header = ContentHeader(body_size=len(body), properties=message.properties)
        frames = [method, frame.marshal(header, raw.number)]
        size = raw.max_content_size
        for part in [body] if len(body) <= size else [body[at : at + size] for at in range(0, len(body), size)]:
            if part:
                frames += [_HEAD.pack(FRAME_BODY, raw.number, len(part)), part, FRAME_END_CHAR]
        return frames
