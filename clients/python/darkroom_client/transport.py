"""Does what operations ask for, in the thread that calls it: HTTP requests, websockets, pauses."""

from __future__ import annotations

import ssl
import time

import httpx2

from darkroom_client import faults
from darkroom_client.effects import Answer, Connect, Disconnect, Effect, Operation, Receive, Send, Sleep, T
from darkroom_client.errors import Misconfigured
from darkroom_client.event_loop_thread import EventLoopThread
from darkroom_client.transport_options import bare_timeout, certificates, http_options
from darkroom_client.websocket_connections import WebsocketConnections


class Transport:
    """One HTTP client, and the websockets that are open. Both trust the same certificates.

    The websockets live on an event loop: `websockets.sync` reads and writes a connection in two threads, which OpenSSL
    does not allow for TLS. Now and then such a handshake never ended, nor did the call.
    """

    def __init__(self, ssl_context: ssl.SSLContext | None, *, trust_env: bool) -> None:
        self._ssl = ssl_context or certificates()
        self._websockets = WebsocketConnections(self._ssl, trust_env=trust_env)
        self._thread = EventLoopThread()
        try:
            self._http = httpx2.Client(**http_options(self._ssl, trust_env=trust_env))
        except faults.PROXY_ERRORS as error:
            raise faults.of_proxy(error) from None  # the text of the library shows the password of the proxy

    def run(self, operation: Operation[T]) -> T:
        """Do what the operation asks for, until it has a result."""
        try:
            effect = next(operation)
            while True:
                try:
                    reply = self._perform(effect)
                except Exception as error:  # noqa: BLE001  the operation decides
                    effect = operation.throw(error)
                else:
                    effect = operation.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            operation.close()

    def close(self) -> None:
        if self._thread.is_running:
            self._thread.call(self._websockets.close_all)
            self._thread.close()
        self._http.close()

    def _perform(self, effect: Effect) -> object:
        match effect:
            case Send():
                return self._send(effect)
            case Sleep(seconds):
                time.sleep(seconds)
            case Connect():
                return self._thread.call(self._websockets.open, effect)
            case Receive(socket, timeout_s):
                return self._thread.call(self._websockets.receive, socket, timeout_s)
            case Disconnect(socket):
                self._thread.call(self._websockets.close, socket)
        return None

    def _send(self, request: Send) -> Answer:
        has_answered, body, ends_at = False, bytearray(), time.monotonic() + 2 * request.timeout_s
        try:
            with self._http.stream(
                request.method,
                request.url,
                headers=request.headers,
                content=request.content,
                timeout=bare_timeout(request.timeout_s),
            ) as response:
                has_answered = True
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > request.max_bytes:
                        raise faults.too_large(request.url, request.max_bytes)
                    if time.monotonic() > ends_at and request.is_small:
                        raise faults.too_slow(request.url, 2 * request.timeout_s)
        except faults.HTTP_ERRORS as error:
            found = faults.of_http(request.url, error, has_answered=has_answered)
            raise found from (None if isinstance(found, Misconfigured) else error)
        return Answer(request.url, response.status_code, dict(response.headers), bytes(body))
