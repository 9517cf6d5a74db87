"""The bus within one process. It needs no broker and stores nothing, but carries the same bytes as RabbitMQ.

send ──▶ a queue ──▶ a task of the consumer with the least to do ──▶ done │ retry after a delay │ dead letter
publish ──▶ ring buffer of the last events ──▶ readers, each at its own position
Delays and timer tokens are timer handles of the event loop. All of it is lost when the process ends.
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
from functools import partial
from typing import Final, Self

from common.bus.handling import MAX_DEAD_BODY, encode_body, one_line, queue_of, timer_tick
from common.bus.memory_queue import MemoryConsumer, MemoryQueue, QueuedMessage
from common.bus.port import After, DeadLetter, Handler, Logged, Start, WorkQueue, parse_queue_name
from common.domain.errors import CursorGone, Unavailable
from common.domain.pools import DEFAULT_POOL
from common.messages import Command, Event, Tick, decode
from common.runtime.clock import Clock, SystemClock, whole_ms

log = logging.getLogger(__name__)

MAX_WAITING: Final = 100_000  # messages in a queue, about 100 MB; above it `send` raises Unavailable
MAX_DEAD: Final = 1_000  # dead letters; above it the oldest is dropped


@dataclass(frozen=True, slots=True)
class _LogEntry:
    position: int
    at: datetime
    event: Event


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    types: frozenset[str]
    on_event: Callable[[Event], None]


class MemoryBus:
    """`log_size` events can be read back; `retry_delays` are the delays after a handler has raised."""

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
        self._retry_delays = retry_delays
        self._queues: dict[str, MemoryQueue] = {}  # by name; made when first used
        self._tokens: dict[WorkQueue, asyncio.TimerHandle] = {}
        self._dead_letters: deque[DeadLetter] = deque(maxlen=MAX_DEAD)
        self._subscriptions: list[_Subscription] = []
        self._epoch = secrets.token_hex(4)  # makes the cursors of another run invalid here
        self._log: deque[_LogEntry] = deque(maxlen=log_size)
        self._next_position = 0
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

    @property
    def warning(self) -> str:
        return ""

    async def send(self, command: Command, *, delay_s: float = 0, pool: str = DEFAULT_POOL) -> None:
        self.inject(queue_of(command), encode_body(command), delay_s=delay_s, pool=pool)

    async def tick(self, tick: Tick) -> None:
        self.inject(WorkQueue(tick.type), encode_body(tick))

    def inject(self, queue: WorkQueue, body: bytes, *, delay_s: float = 0, pool: str = DEFAULT_POOL) -> None:
        """Put bytes into a queue without a check, as a foreign publisher can on a broker.

        Raises:
            Unavailable: the queue is full.
        """
        self._check_open()
        target = self._queue(queue, pool)
        if target.waiting >= MAX_WAITING:
            raise Unavailable("bus", f"{queue.of_pool(pool)} is full")
        target.put(QueuedMessage(body), delay_s)

    def _queue(self, queue: WorkQueue, pool: str = DEFAULT_POOL) -> MemoryQueue:
        name = queue.of_pool(pool)
        if name not in self._queues:
            dead_letter = partial(self._dead_letter, name)
            self._queues[name] = MemoryQueue(queue, dead_letter=dead_letter, retry_delays=self._retry_delays)
        return self._queues[name]

    async def arm(self, timer: str, *, interval_s: float) -> bool:
        self._check_open()
        queue = WorkQueue(timer)
        if queue in self._tokens:
            return False

        def fire() -> None:
            del self._tokens[queue]
            tick = timer_tick(queue, source=self._name, now=self._clock.now())
            self._queue(queue).put(QueuedMessage(encode_body(tick)))

        self._tokens[queue] = asyncio.get_running_loop().call_later(interval_s, fire)
        return True

    @asynccontextmanager
    async def consume(
        self, queue: WorkQueue, handler: Handler, *, concurrency: int, pool: str = DEFAULT_POOL
    ) -> AsyncIterator[MemoryConsumer]:
        source = self._queue(queue, pool)
        consumer = source.add_consumer(handler, concurrency)
        try:
            yield consumer
        finally:
            await source.remove_consumer(consumer)

    async def waiting(self, queue: WorkQueue, *, pool: str = DEFAULT_POOL) -> int:
        return self._queue(queue, pool).waiting

    # -- the event log

    async def publish(self, event: Event) -> None:
        self._check_open()
        decoded = decode(encode_body(event))
        assert not isinstance(decoded, Command | Tick)
        self._log.append(_LogEntry(self._next_position, self._clock.now(), decoded))
        self._next_position += 1
        for reader in self._readers:
            reader.set()
        for subscription in self._subscriptions:
            if event.type in subscription.types:
                asyncio.get_running_loop().call_soon(self._notify, subscription, decoded)

    async def publish_several(self, events: Sequence[Event]) -> list[Unavailable | None]:
        outcomes: list[Unavailable | None] = []
        for event in events:
            try:
                await self.publish(event)
                outcomes.append(None)
            except Unavailable as error:
                outcomes.append(error)
        return outcomes

    def _notify(self, subscription: _Subscription, event: Event) -> None:
        if subscription not in self._subscriptions:
            return  # it ended after the event was published
        try:
            subscription.on_event(event)
        except Exception:
            log.exception("a subscriber failed on %s", event.type)

    @asynccontextmanager
    async def subscribe(self, types: frozenset[str], on_event: Callable[[Event], None]) -> AsyncIterator[None]:
        subscription = _Subscription(types, on_event)
        self._subscriptions.append(subscription)
        try:
            yield
        finally:
            self._subscriptions.remove(subscription)

    async def read(self, start: Start) -> AsyncGenerator[Logged]:
        """A reader that is slower than the log is long gets CursorGone."""
        position = self._first_position(start)
        appended = asyncio.Event()
        self._readers.add(appended)
        try:
            while True:
                appended.clear()
                self._check_open()
                while position < self._next_position:
                    oldest = self._next_position - len(self._log)
                    if position < oldest:
                        raise CursorGone(f"the log starts at {oldest}, after {position}")
                    entry = self._log[position - oldest]
                    position += 1
                    yield Logged(f"{self._epoch}.{entry.position}", entry.event)
                await appended.wait()
        finally:
            self._readers.discard(appended)

    def _first_position(self, start: Start) -> int:
        oldest = self._next_position - len(self._log)
        if not isinstance(start, After):
            moment = whole_ms(start.moment)  # the clock has whole milliseconds too
            return next((entry.position for entry in self._log if entry.at >= moment), self._next_position)
        epoch, _, position = start.cursor.rpartition(".")
        is_number = position.isascii() and position.isdecimal() and len(position) < 20
        if epoch != self._epoch or not is_number or not oldest <= int(position) < self._next_position:
            raise CursorGone(f"the log does not hold {start.cursor[:80]!r}")
        return int(position) + 1

    # -- dead letters

    def _dead_letter(self, queue: str, message: QueuedMessage, reason: str) -> None:
        reason = one_line(reason)
        if queue == WorkQueue.DEAD:
            log.warning("a dead letter could not be handled and is only kept: %s", reason)
            return
        log.warning("a message of %s becomes a dead letter: %s", queue, reason)
        body = message.body[:MAX_DEAD_BODY]
        letter = DeadLetter(secrets.token_hex(8), body, reason, queue, self._clock.now())
        self._dead_letters.append(letter)
        dead_queue = self._queue(WorkQueue.DEAD)
        if dead_queue.waiting >= MAX_DEAD:
            dead_queue.drop_oldest()
        dead_queue.put(QueuedMessage(body, letter))

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        return list(self._dead_letters)[:limit]

    async def count_dead_letters(self) -> int:
        return len(self._dead_letters)

    async def redrive(self, letter_id: str) -> bool:
        letter = self._find_dead_letter(letter_id)
        if letter is None:
            return False
        queue, pool = parse_queue_name(letter.queue)
        self.inject(queue, letter.body, pool=pool)
        self._dead_letters.remove(letter)
        return True

    async def drop(self, letter_id: str) -> bool:
        letter = self._find_dead_letter(letter_id)
        if letter is not None:
            self._dead_letters.remove(letter)
        return letter is not None

    def _find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        return next((letter for letter in self._dead_letters if letter.id == letter_id), None)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("bus", "it is closed")
