"""Operations of live events: listen to all images of the owner, or follow some until they have ended.

Listening   websocket ─(closed)─▶ pause ─▶ websocket?after=<last cursor> …   each final event once
Following   websocket ─▶ events of these images; without one, their records are read
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final

from darkroom_client.effects import (
    Connect,
    Operation,
    Socket,
    SocketClosed,
    connect,
    disconnect,
    receive,
    sleep,
)
from darkroom_client.errors import ApiError, DarkroomError, Gone, NoAnswer, NotFound, ServerError, Unauthorized
from darkroom_client.events import (
    Connected,
    Deleted,
    Event,
    Hint,
    ImageEvent,
    OneImageEvent,
    Progress,
    Snapshot,
    event_of_record,
    parse_frame,
)
from darkroom_client.models import Image
from darkroom_client.orders import OrderOperations
from darkroom_client.origin import Origin
from darkroom_client.retries import Retries

HANDSHAKE_S: Final = 10.0  # a replica that still reads the event log answers within this
FIRST_FRAME_S: Final = 30.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
POLL_S: Final = 2.0  # without an event for this long the record is read: an event may be missed, the record counts
QUIET: Final = 3  # doublings of that time: up to 16 s
RECONNECT_S: Final = 5.0  # between two tries to open a websocket beside reading records
SEEN: Final = 10_000  # final events that are remembered; the server repeats one soon or never
CREDENTIAL_ENDED: Final = 4401


class Listening:
    """The events of the owner from now on, or after a cursor."""

    def __init__(self, origin: Origin, retries: Retries, *, after: str | None, hints: bool, handshake_s: float) -> None:
        self.cursor = after
        self._origin = origin
        self._retries = retries
        self._hints = hints
        self._handshake_s = handshake_s
        self._socket: Socket | None = None
        self._is_first = after is None
        self._failures = 0
        self._seen: OrderedDict[str, None] = OrderedDict()

    def next(self) -> Operation[Event]:
        """The next event; it never ends.

        Raises:
            DarkroomError: one that does not pass, such as a credential that has ended.
        """
        while True:
            try:
                if self._socket is None:
                    event = yield from self._connect()
                else:
                    event = parse_frame((yield from receive(self._socket, None)) or "")
            except SocketClosed as closed:
                yield from self._lost(closed)
                continue
            if event is not None and self._is_shown(event):
                return event

    def close(self) -> Operation[None]:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            yield from disconnect(socket)

    def _connect(self) -> Operation[Event | None]:
        """Open a websocket and read its first frame; None if that failed and may be tried again."""
        url = self._origin.websocket(self.cursor)
        try:
            request = Connect(url, self._origin.headers_for(url), self._handshake_s)
            self._socket = yield from connect(request)
        except DarkroomError as error:
            if not self._is_passing(error):
                raise
            yield from self._pause(error)
            return None
        text = yield from receive(self._socket, FIRST_FRAME_S)
        event = parse_frame(text or "")
        if not isinstance(event, Snapshot):
            raise SocketClosed(1006, "the first frame is no hello")
        self._failures = 0
        return event

    def _is_passing(self, error: DarkroomError) -> bool:
        """Whether a replica may let us in soon. A limit of websockets passes as well."""
        if isinstance(error, ApiError):
            return isinstance(error, ServerError) or error.status in {408, 429}
        return isinstance(error, NoAnswer) and error.is_passing

    def _lost(self, closed: SocketClosed) -> Operation[None]:
        yield from self.close()
        if closed.code == CREDENTIAL_ENDED:
            raise Unauthorized(closed.reason or "the credential has ended", status=401) from closed
        yield from self._pause(None)

    def _pause(self, error: DarkroomError | None) -> Operation[None]:
        delay_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        asked_s = (error.retry_after_s or 0.0) if isinstance(error, ApiError) else 0.0
        # a replica that stops closes many websockets at once
        yield from sleep(max(delay_s, asked_s) * random.uniform(0.5, 1.5))  # no secret

    def _is_shown(self, event: Event) -> bool:
        if isinstance(event, Hint):
            return self._hints
        is_first, self._is_first = self._is_first, False
        if isinstance(event, Connected) and not is_first:
            self.cursor = event.cursor or self.cursor
            return False
        if isinstance(event, ImageEvent) and event.is_final and not self._is_new(event):
            return False
        self.cursor = event.cursor or self.cursor
        return True

    def _is_new(self, event: OneImageEvent) -> bool:
        """Whether this final event was not shown before: it may be repeated after a crash of the server."""
        key = f"{type(event).__name__} {event.image_id}"
        if key in self._seen:
            self.cursor = event.cursor or self.cursor
            return False
        self._seen[key] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        return True


class Following:
    """The events of some images, from their present state until all have ended."""

    def __init__(
        self,
        orders: OrderOperations,
        images: Sequence[Image],
        *,
        handshake_s: float = HANDSHAKE_S,
        poll_s: float = POLL_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.images = {image.id: image for image in images}
        self._orders = orders
        self._handshake_s = handshake_s
        self._poll_s = poll_s
        self._now = now
        self._open = set(self.images)
        self._pending: deque[OneImageEvent] = deque()
        self._states: dict[str, tuple[str, int]] = {}
        self._socket: Socket | None = None
        self._cursor: str | None = None
        self._connects_at = 0.0
        self._heard_at = now()
        self._reads_at = now() + poll_s
        self._quiet = 0  # reads since the last event
        for image in images:
            self._take(event_of_record(image))

    def next(self) -> Operation[OneImageEvent | None]:
        """The next event; None when all images have ended.

        Raises:
            NoAnswer: the server has not answered for long; the images may still be painted.
        """
        while not self._pending:
            if not self._open:
                yield from self.close()
                return None
            if self._socket is None and self._now() >= self._connects_at:
                yield from self._connect()
            else:
                yield from self._receive()
        return self._pending.popleft()

    def close(self) -> Operation[None]:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            yield from disconnect(socket)

    def _connect(self) -> Operation[None]:
        self._connects_at = self._now() + RECONNECT_S
        origin = self._orders.origin
        url = origin.websocket(self._cursor)
        try:
            self._socket = yield from connect(Connect(url, origin.headers_for(url), self._handshake_s))
        except DarkroomError:
            # a proxy lets none through, or the server refuses it: the records are read
            yield from self._read()

    def _receive(self) -> Operation[None]:
        left_s = max(0.0, self._reads_at - self._now())
        try:
            if self._socket is None:
                yield from sleep(min(self._poll_s, left_s))
                text = None
            else:
                # other images may have many events: they do not put the next read off
                text = yield from receive(self._socket, left_s)
        except SocketClosed:
            yield from self.close()
            return
        if text is None:
            yield from self._read()
            return
        event = parse_frame(text)
        if isinstance(event, Snapshot | ImageEvent):
            self._cursor = event.cursor or self._cursor
        if isinstance(event, Snapshot):
            yield from self._read()  # what happened before is in no event
        elif isinstance(event, ImageEvent):
            self._take(event)

    def _take(self, event: OneImageEvent) -> None:
        if event.image_id not in self._open:
            return
        if not isinstance(event, Progress | Deleted):
            self.images[event.image_id] = event.image
            state = (event.image.status, event.image.attempts)
            if self._states.get(event.image_id) == state:
                return  # the same from the record and from the event
            self._states[event.image_id] = state
        if event.is_final:
            self._open.discard(event.image_id)
        self._pending.append(event)
        self._quiet, self._reads_at = 0, self._now() + self._poll_s

    def _read(self) -> Operation[None]:
        # while a websocket is open, an image that waits for long is read less and less often
        self._quiet = min(self._quiet + 1, QUIET) if self._socket is not None else 0
        self._reads_at = self._now() + self._poll_s * 2**self._quiet
        for image_id in sorted(self._open):
            try:
                image = yield from self._orders.read(image_id)
            except (NotFound, Gone) as error:
                self._take(Deleted(image_id=image_id, reason=str(error)))
            except (NoAnswer, ServerError) as error:
                if isinstance(error, NoAnswer) and self._is_final_refusal(error):
                    raise
                if self._now() - self._heard_at > self._orders.retries.patience_s:
                    raise
                return
            else:
                self._take(event_of_record(image))
            self._heard_at = self._now()

    @staticmethod
    def _is_final_refusal(error: NoAnswer) -> bool:
        return error.code in {"redirected", "tls_failed"}
