"""The websocket of events of one server."""

from __future__ import annotations

from darkroom_client.effects import Connect, Operation, Socket, connect, disconnect, receive
from darkroom_client.origin import Origin


class EventSocket:
    """One websocket at a time; `handshake_s` limits how long it opens."""

    def __init__(self, origin: Origin, handshake_s: float) -> None:
        self._origin = origin
        self._handshake_s = handshake_s
        self._socket: Socket | None = None

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def open(self, cursor: str | None) -> Operation[None]:
        """Connect; the events after the cursor follow, without one those from now on."""
        url = self._origin.websocket(cursor)
        self._socket = yield from connect(Connect(url, self._origin.headers_for(url), self._handshake_s))

    def receive(self, timeout_s: float | None) -> Operation[str | None]:
        """The next frame; None if there is none within the time.

        Raises:
            SocketClosed: it has ended.
        """
        assert self._socket is not None
        return (yield from receive(self._socket, timeout_s))

    def close(self) -> Operation[None]:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            yield from disconnect(socket)
