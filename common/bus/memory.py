"""The bus within one process: nothing to install, nothing kept. It carries the same bytes as the one on RabbitMQ.

send ──▶ a queue ──▶ a task of its idlest worker ──▶ done │ back after a delay │ dead
publish ──▶ ring of the last events ──▶ readers, each at its own place
Delays and timer tokens are handles of the event loop: they end with the process, as everything here does.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from common.bus.handling import encode_body, timer_tick
from common.bus.memory_queue import MemoryConsumer, MemoryQueue, QueuedMessage
from common.bus.port import After, DeadLetter, Handler, Logged, Start, WorkQueue
from common.domain.errors import CursorGone, Unavailable
from common.messages import Command, Event, Tick, decode
from common.runtime.clock import Clock, SystemClock, whole_ms

log = logging.getLogger(__name__)

MAX_WAITING: Final = 100_000  # messages in a queue, some 100 MB; past it `send` raises Unavailable
MAX_DEAD: Final = 1_000  # dead letters; past it the oldest is forgotten


@dataclass(frozen=True, slots=True)
class _LogRecord:
    place: int
    at: datetime
    event: Event


class MemoryBus:
    """`log_size` events can be read back; `retry_delays` are the waits after a handler has raised."""

    def __init__(
        self,
        *,
        name: str = "darkroom",
        clock: Clock | None = None,
        log_size: int = 10_000,
        retry_delays: Sequence[float] = (5, 30, 120),
    ) -> None:
        self._name = name
        self._clock = clock or SystemClock()
        self._queues = {
            queue: MemoryQueue(queue, dead_letter=self._dead_letter, retry_delays=retry_delays) for queue in WorkQueue
        }
        self._tokens: dict[WorkQueue, asyncio.TimerHandle] = {}
        self._dead: deque[DeadLetter] = deque(maxlen=MAX_DEAD)
        self._subscriptions: list[tuple[frozenset[str], Callable[[Event], None]]] = []
        self._epoch = secrets.token_hex(4)  # a cursor of another run names nothing here
        self._log: deque[_LogRecord] = deque(maxlen=log_size)
        self._next_index = 0
        self._readers: set[asyncio.Event] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for token in self._tokens.values():
            token.cancel()
        for queue in self._queues.values():
            queue.close()
        for reader in self._readers:
            reader.set()

    @property
    def unready_reason(self) -> str:
        return "the bus is closed" if self._closed else ""

    async def send(self, command: Command, *, delay_s: float = 0) -> None:
        self.inject(WorkQueue(command.type), encode_body(command), delay_s=delay_s)

    async def tick(self, tick: Tick) -> None:
        self.inject(WorkQueue(tick.type), encode_body(tick))

    def inject(self, queue: WorkQueue, body: bytes, *, delay_s: float = 0) -> None:
        """Put bytes into a queue as they are, as a foreign publisher may on a broker.

        Raises:
            Unavailable: the queue is full.
        """
        self._check_open()
        if self._queues[queue].waiting >= MAX_WAITING:
            raise Unavailable("bus", f"{queue} is full")
        self._queues[queue].put(QueuedMessage(body), delay_s)

    async def arm(self, timer: str, *, interval_s: float) -> bool:
        self._check_open()
        queue = WorkQueue(timer)
        if queue in self._tokens:
            return False

        def fire() -> None:
            del self._tokens[queue]
            self._queues[queue].put(
                QueuedMessage(encode_body(timer_tick(queue, source=self._name, now=self._clock.now())))
            )

        self._tokens[queue] = asyncio.get_running_loop().call_later(interval_s, fire)
        return True

    @asynccontextmanager
    async def consume(self, queue: WorkQueue, handler: Handler, *, concurrency: int) -> AsyncIterator[MemoryConsumer]:
        place = self._queues[queue]
        consumer = MemoryConsumer(handler, concurrency, place.dispatch)
        place.consumers.append(consumer)
        place.dispatch()
        try:
            yield consumer
        finally:
            place.consumers.remove(consumer)
            await consumer.cancel()

    async def waiting(self, queue: WorkQueue) -> int:
        return self._queues[queue].waiting

    # -- the event log

    async def publish(self, event: Event) -> None:
        self._check_open()
        decoded = decode(encode_body(event))
        assert not isinstance(decoded, Command | Tick)
        self._log.append(_LogRecord(self._next_index, self._clock.now(), decoded))
        self._next_index += 1
        for reader in self._readers:
            reader.set()
        for subscription in self._subscriptions:
            if event.type in subscription[0]:
                asyncio.get_running_loop().call_soon(self._notify, subscription, decoded)

    def _notify(self, subscription: tuple[frozenset[str], Callable[[Event], None]], event: Event) -> None:
        if subscription not in self._subscriptions:
            return  # gone since
        try:
            subscription[1](event)
        except Exception:
            log.exception("a listener failed on %s", event.type)

    @asynccontextmanager
    async def subscribe(self, types: frozenset[str], on_event: Callable[[Event], None]) -> AsyncIterator[None]:
        subscription = (types, on_event)
        self._subscriptions.append(subscription)
        try:
            yield
        finally:
            self._subscriptions.remove(subscription)

    async def read(self, start: Start) -> AsyncGenerator[Logged]:
        """A reader that falls a whole log behind is told so by CursorGone."""
        place = self._index_after(start)
        appended = asyncio.Event()
        self._readers.add(appended)
        try:
            while True:
                appended.clear()
                self._check_open()
                while place < self._next_index:
                    oldest = self._next_index - len(self._log)
                    if place < oldest:
                        raise CursorGone(f"the log begins at {oldest}, after {place}")
                    record = self._log[place - oldest]
                    place += 1
                    yield Logged(f"{self._epoch}.{record.place}", record.event)
                await appended.wait()
        finally:
            self._readers.discard(appended)

    def _index_after(self, start: Start) -> int:
        oldest = self._next_index - len(self._log)
        if not isinstance(start, After):
            moment = whole_ms(start.moment)  # as the clock has it
            return next((record.place for record in self._log if record.at >= moment), self._next_index)
        epoch, _, place = start.cursor.rpartition(".")
        if epoch != self._epoch or not place.isdecimal() or not oldest <= int(place) < self._next_index:
            raise CursorGone(f"the log does not hold {start.cursor[:80]!r}")
        return int(place) + 1

    # -- dead letters

    def _dead_letter(self, queue: WorkQueue, queued: QueuedMessage, reason: str) -> None:
        if queue is WorkQueue.DEAD:
            log.warning("a dead letter cannot be handled either and is only kept: %s", reason)
            return
        log.warning("a message of %s is dead: %s", queue, reason)
        letter = DeadLetter(secrets.token_hex(8), queued.body, reason, queue.value, self._clock.now())
        self._dead.append(letter)
        work = self._queues[WorkQueue.DEAD]
        if work.waiting >= MAX_DEAD:
            work.drop_oldest()
        work.put(QueuedMessage(queued.body, letter))

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        return list(self._dead)[:limit]

    async def redrive(self, letter_id: str) -> bool:
        letter = next((letter for letter in self._dead if letter.id == letter_id), None)
        if letter is None:
            return False
        self.inject(WorkQueue(letter.queue), letter.body)
        self._dead.remove(letter)
        return True

    async def drop(self, letter_id: str) -> bool:
        letter = next((letter for letter in self._dead if letter.id == letter_id), None)
        if letter is not None:
            self._dead.remove(letter)
        return letter is not None

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("bus", "it is closed")
