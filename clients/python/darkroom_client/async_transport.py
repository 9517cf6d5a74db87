"""Does what operations ask for, on the event loop: HTTP requests, websockets, pauses."""

from __future__ import annotations

import asyncio
import ssl

import httpx2

from darkroom_client import faults
from darkroom_client.effects import Answer, Connect, Disconnect, Effect, Operation, Receive, Send, Sleep, T
from darkroom_client.errors import Misconfigured
from darkroom_client.transport_options import bare_timeout, certificates, http_options
from darkroom_client.websocket_connections import WebsocketConnections


class AsyncTransport:
    """One HTTP client, and the websockets that are open. Both trust the same certificates."""

    def __init__(self, ssl_context: ssl.SSLContext | None, *, trust_env: bool) -> None:
        self._ssl = ssl_context or certificates()
        self._websockets = WebsocketConnections(self._ssl, trust_env=trust_env)
        try:
            self._http = httpx2.AsyncClient(**http_options(self._ssl, trust_env=trust_env))
        except faults.PROXY_ERRORS as error:
            raise faults.of_proxy(error) from None  # the text of the library shows the password of the proxy

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
        await self._websockets.close_all()
        await self._http.aclose()

    async def _perform(self, effect: Effect) -> object:
        match effect:
            case Send():
                return await self._send(effect)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Connect():
                return await self._websockets.open(effect)
            case Receive(socket, timeout_s):
                return await self._websockets.receive(socket, timeout_s)
            case Disconnect(socket):
                await self._websockets.close(socket)
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
