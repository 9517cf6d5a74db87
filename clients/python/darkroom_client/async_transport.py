"""Does what operations ask for, on the event loop: HTTP requests, websockets, pauses."""

from __future__ import annotations

import asyncio
import ssl

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from darkroom_client import faults
from darkroom_client.effects import Answer, Connect, Disconnect, Effect, Operation, Receive, Send, Sleep, Socket, T
from darkroom_client.errors import Misconfigured
from darkroom_client.transport_options import bare_timeout, certificates, http_options, socket_options


class AsyncTransport:
    """One HTTP client, and the websockets that are open. Both trust the same certificates."""

    def __init__(self, ssl_context: ssl.SSLContext | None, *, trust_env: bool) -> None:
        self._ssl = ssl_context or certificates()
        self._trust_env = trust_env
        try:
            self._http = httpx2.AsyncClient(**http_options(self._ssl, trust_env=trust_env))
        except faults.PROXY_ERRORS as error:
            raise faults.of_proxy(error) from None  # the text of the library shows the password of the proxy
        self._sockets: set[ClientConnection] = set()

    async def run(self, operation: Operation[T]) -> T:
        """Do what the operation asks for, until it has a result."""
        try:
            effect = next(operation)
            while True:
                try:
                    reply = await self._perform(effect)
                except Exception as error:  # noqa: BLE001  the operation decides
                    effect = operation.throw(error)
                else:
                    effect = operation.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()

    async def close(self) -> None:
        for connection in list(self._sockets):
            await self._disconnect(connection)
        await self._http.aclose()

    async def _perform(self, effect: Effect) -> object:
        match effect:
            case Send():
                return await self._send(effect)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Connect():
                return Socket(await self._connect(effect))
            case Receive(socket, timeout_s):
                return await _receive(socket.connection, timeout_s)
            case Disconnect(socket):
                await self._disconnect(socket.connection)
        return None

    async def _send(self, request: Send) -> Answer:
        has_answered, body, ends_at = False, bytearray(), asyncio.get_running_loop().time() + 2 * request.timeout_s
        try:
            async with self._http.stream(
                request.method,
                request.url,
                headers=request.headers,
                content=request.content,
                timeout=bare_timeout(request.timeout_s),
            ) as response:
                has_answered = True
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > request.max_bytes:
                        raise faults.too_large(request.url, request.max_bytes)
                    if asyncio.get_running_loop().time() > ends_at and request.is_small:
                        raise faults.too_slow(request.url, 2 * request.timeout_s)
        except faults.HTTP_ERRORS as error:
            found = faults.of_http(request.url, error, has_answered=has_answered)
            raise found from (None if isinstance(found, Misconfigured) else error)
        return Answer(request.url, response.status_code, dict(response.headers), bytes(body))

    async def _connect(self, request: Connect) -> ClientConnection:
        options = socket_options(request.url, self._ssl, trust_env=self._trust_env)
        try:
            connection = await _Websocket(
                request.url, additional_headers=request.headers, open_timeout=request.timeout_s, **options
            )
        except faults.SOCKET_ERRORS as error:
            found = faults.of_handshake(request.url, error)
            raise found from (None if isinstance(found, Misconfigured) else error)
        self._sockets.add(connection)
        return connection

    async def _disconnect(self, connection: ClientConnection) -> None:
        self._sockets.discard(connection)
        await connection.close()


class _Websocket(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Redirects are not followed: the credentials are for the server that was named."""
        return exc


async def _receive(connection: ClientConnection, timeout_s: float | None) -> str | None:
    try:
        async with asyncio.timeout(timeout_s):
            frame = await connection.recv()
    except TimeoutError:
        return None
    except faults.SOCKET_ERRORS as error:
        raise faults.of_socket(error) from error
    return frame if isinstance(frame, str) else ""
