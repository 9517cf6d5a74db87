"""The websockets that a client has open. They live on an event loop."""

from __future__ import annotations

import asyncio
import ssl

from websockets.asyncio.client import ClientConnection, connect

from darkroom_client import faults
from darkroom_client.effects import Connect, Socket
from darkroom_client.errors import Misconfigured
from darkroom_client.transport_options import socket_options


class WebsocketConnections:
    def __init__(self, ssl_context: ssl.SSLContext, *, trust_env: bool) -> None:
        self._ssl = ssl_context
        self._trust_env = trust_env
        self._open: set[ClientConnection] = set()

    async def open(self, request: Connect) -> Socket:
        """Open a websocket.

        Raises:
            DarkroomError: the server refuses it, or does not open it within the time of the request.
        """
        options = socket_options(request.url, self._ssl, trust_env=self._trust_env)
        try:
            connection = await _Websocket(
                request.url, additional_headers=request.headers, open_timeout=request.timeout_s, **options
            )
        except faults.SOCKET_ERRORS as error:
            found = faults.of_handshake(request.url, error)
            raise found from (None if isinstance(found, Misconfigured) else error)
        self._open.add(connection)
        return Socket(connection)

    async def receive(self, socket: Socket, timeout_s: float | None) -> str | None:
        """The next text frame; None if there is none within the time.

        Raises:
            SocketClosed: it has ended.
        """
        try:
            async with asyncio.timeout(timeout_s):
                frame = await socket.connection.recv()
        except TimeoutError:
            return None
        except faults.SOCKET_ERRORS as error:
            raise faults.of_socket(error) from error
        return frame if isinstance(frame, str) else ""

    async def close(self, socket: Socket) -> None:
        self._open.discard(socket.connection)
        await socket.connection.close()

    async def close_all(self) -> None:
        for connection in list(self._open):
            await self.close(Socket(connection))


class _Websocket(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Redirects are not followed: the credentials are for the server that was named."""
        return exc
