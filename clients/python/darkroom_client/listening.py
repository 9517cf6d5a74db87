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

from darkroom_client.effects import Operation, SocketClosed, sleep
from darkroom_client.errors import DarkroomError, Gone, LimitReached, NoAnswer, NotFound, ServerError, Unauthorized
from darkroom_client.event_socket import EventSocket
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
from darkroom_client.retries import Retries, asked_s

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
        self.cursor = after or None
        self._retries = retries
        self._hints = hints
        self._socket = EventSocket(origin, handshake_s)
        self._is_first = not after
        self._failures = 0
        self._seen: OrderedDict[str, None] = OrderedDict()

    def next(self) -> Operation[Event]:
        """The next event; it never ends.

        Raises:
            DarkroomError: one that does not pass, such as a credential that has ended.
        """
        while True:
            try:
                if self._socket.is_open:
                    event = parse_frame((yield from self._socket.receive(None)) or "")
                else:
                    event = yield from self._connect()
            except SocketClosed as closed:
                yield from self._lost(closed)
                continue
            if event is not None and self._is_shown(event):
                return event

    def close(self) -> Operation[None]:
        yield from self._socket.close()

    def _connect(self) -> Operation[Event | None]:
        """Open a websocket and read its first frame; None if that failed and may be tried again."""
        try:
            yield from self._socket.open(self.cursor)
        except DarkroomError as error:
            if not self._is_passing(error):
                raise
            yield from self._pause(error)
            return None
        event = parse_frame((yield from self._socket.receive(FIRST_FRAME_S)) or "")
        if not isinstance(event, Snapshot):
            raise SocketClosed(1006, "the first frame is no hello")
        self._failures = 0
        return event

    def _is_passing(self, error: DarkroomError) -> bool:
        """Whether a replica may let us in soon. A limit of websockets passes as well: it names no time."""
        if isinstance(error, LimitReached) and error.retry_after_s is None:
            return not isinstance(error, self._retries.never)
        return self._retries.is_passing(error)

    def _lost(self, closed: SocketClosed) -> Operation[None]:
        yield from self.close()
        if closed.code == CREDENTIAL_ENDED:
            raise Unauthorized(closed.reason or "the credential has ended", status=401) from closed
        yield from self._pause(None)

    def _pause(self, error: DarkroomError | None) -> Operation[None]:
        delay_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        # a replica that stops closes many websockets at once; none comes back earlier than it was asked to
        pause_s = max(delay_s * random.uniform(0.5, 1.5), asked_s(error) * random.uniform(1.0, 1.5))  # no secret
        yield from sleep(pause_s)

    def _is_shown(self, event: Event) -> bool:
        if isinstance(event, Hint):
            return self._hints
        self.cursor = event.cursor or self.cursor
        is_first, self._is_first = self._is_first, False
        if isinstance(event, Connected):
            return is_first
        return not (isinstance(event, ImageEvent) and event.is_final) or self._is_new(event)

    def _is_new(self, event: OneImageEvent) -> bool:
        """Whether this final event was not shown before: it may be repeated after a crash of the server."""
        key = f"{type(event).__name__} {event.image_id}"
        if key in self._seen:
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
        self._poll_s = poll_s
        self._now = now
        self._open = set(self.images)
        self._pending: deque[OneImageEvent] = deque()
        self._states: dict[str, tuple[str, int]] = {}
        self._socket = EventSocket(orders.origin, handshake_s)
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
            if not self._socket.is_open and self._now() >= self._connects_at:
                yield from self._connect()
            else:
                yield from self._receive()
        return self._pending.popleft()

    def close(self) -> Operation[None]:
        yield from self._socket.close()

    def _connect(self) -> Operation[None]:
        self._connects_at = self._now() + RECONNECT_S
        try:
            yield from self._socket.open(self._cursor)
        except DarkroomError:
            # a proxy lets none through, or the server refuses it: the records are read
            yield from self._read()

    def _receive(self) -> Operation[None]:
        left_s = max(0.0, self._reads_at - self._now())
        try:
            if self._socket.is_open:
                # other images may have many events: they do not put the next read off
                text = yield from self._socket.receive(left_s)
            else:
                yield from sleep(min(self._poll_s, left_s))
                text = None
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
        self._quiet = min(self._quiet + 1, QUIET) if self._socket.is_open else 0
        self._reads_at = self._now() + self._poll_s * 2**self._quiet
        for image_id in sorted(self._open):
            try:
                image = yield from self._orders.read(image_id)
            except (NotFound, Gone) as error:
                self._take(Deleted(image_id=image_id, reason=str(error)))
            except (NoAnswer, ServerError) as error:
                if not self._orders.retries.is_outwaited(error, silent_s=self._now() - self._heard_at):
                    raise
                return
            else:
                self._take(event_of_record(image))
            self._heard_at = self._now()
