"""A channel to the broker that is opened again when it is lost.

Why not aio-pika's robust connections: docs/decisions/0005 of the repository.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError, InvalidFrameError, ProbableAuthenticationError

from darkroom_client.errors import BusError, Misconfigured

log = logging.getLogger("darkroom_client.bus")

CONNECT_S: Final = 10.0
# What aio-pika and aiormq raise when the broker is away: errors of AMQP, of sockets, of a channel that has ended.
BROKER_ERRORS: Final = (AMQPError, OSError, RuntimeError, asyncio.InvalidStateError)


@asynccontextmanager
async def broker_errors(doing: str) -> AsyncIterator[None]:
    """Raise BusError for what the libraries raise when the broker is away.

    aiormq raises a CancelledError when a connection is lost, and swallows that of this task while a channel closes. So
    what counts is whether somebody has cancelled this task.
    """
    before = _cancel_requests()
    try:
        yield
    except (asyncio.CancelledError, *BROKER_ERRORS) as error:
        if _cancel_requests() > before:
            raise error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError from error
        raise BusError(f"{doing}: {str(error) or type(error).__name__}") from error
    if _cancel_requests() > before:
        raise asyncio.CancelledError


def _cancel_requests() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


class BusChannel:
    """One connection with one channel; `on_lost` is called when either has ended."""

    def __init__(self, url: str, *, name: str, confirms: bool, on_lost: Callable[[], None] = lambda: None) -> None:
        if urlsplit(url).scheme not in {"amqp", "amqps"}:
            raise Misconfigured("the URL of the broker must begin with amqp:// or amqps://")
        self._url = url
        self._name = name
        self._confirms = confirms
        self._on_lost = on_lost
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> AbstractChannel:
        """The open channel.

        Raises:
            BusError: the broker cannot be reached.
            Misconfigured: it refuses the user, the password or the virtual host.
        """
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                await self._reset()
                try:
                    async with broker_errors("the broker cannot be reached"), asyncio.timeout(CONNECT_S):
                        self._channel = await self._connect()
                except BusError as error:
                    await self._reset()
                    if isinstance(error.__cause__, ProbableAuthenticationError | InvalidFrameError):
                        message = "the broker refuses the user, the password or the virtual host"
                        raise Misconfigured(message) from error
                    raise
            return self._channel

    async def _connect(self) -> AbstractChannel:
        connection = await aio_pika.connect(self._url, client_properties={"connection_name": self._name})
        self._connection = connection

        def lost(*_: object) -> None:
            if self._connection is connection:  # else it was closed by us, or another one has taken its place
                self._on_lost()

        connection.close_callbacks.add(lost)
        channel = await connection.channel(publisher_confirms=self._confirms, on_return_raises=self._confirms)
        channel.close_callbacks.add(lost)
        raw = await channel.get_underlay_channel()
        raw.on_consumer_cancel_callbacks.add(lost)
        return channel

    async def close(self) -> None:
        async with self._opening:
            await self._reset()

    async def _reset(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(BusError):
                async with broker_errors("the connection was not closed"), asyncio.timeout(CONNECT_S):
                    await connection.close()
