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

from common.bus.handling import body_of, tick_of
from common.bus.memory_queue import Parcel, Queue, Worker
from common.bus.port import After, DeadLetter, Handler, Logged, Start, WorkQueue
from common.domain.errors import CursorGone, Unavailable
from common.messages import Command, Event, Tick, decode
from common.runtime.clock import Clock, SystemClock, whole_ms

log = logging.getLogger(__name__)

MAX_WAITING: Final = 100_000  # messages in a queue, some 100 MB; past it `send` raises Unavailable
MAX_DEAD: Final = 1_000  # dead letters; past it the oldest is forgotten


@dataclass(frozen=True, slots=True)
class _Entry:
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
            queue: Queue(queue, dead_letter=self._dead_letter, retry_delays=retry_delays) for queue in WorkQueue
        }
        self._tokens: dict[WorkQueue, asyncio.TimerHandle] = {}
        self._dead: deque[DeadLetter] = deque(maxlen=MAX_DEAD)
        self._listeners: list[tuple[frozenset[str], Callable[[Event], None]]] = []
        self._epoch = secrets.token_hex(4)  # a cursor of another run names nothing here
        self._log: deque[_Entry] = deque(maxlen=log_size)
        self._next_place = 0
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
        self.inject(WorkQueue(command.type), body_of(command), delay_s=delay_s)

    async def tick(self, tick: Tick) -> None:
        self.inject(WorkQueue(tick.type), body_of(tick))

    def inject(self, queue: WorkQueue, body: bytes, *, delay_s: float = 0) -> None:
        """Put bytes into a queue as they are, as a foreign publisher may on a broker.

        Raises:
            Unavailable: the queue is full.
        """
        self._must_be_open()
        if self._queues[queue].waiting >= MAX_WAITING:
            raise Unavailable("bus", f"{queue} is full")
        self._queues[queue].put(Parcel(body), delay_s)

    async def arm(self, timer: str, *, interval_s: float) -> bool:
        self._must_be_open()
        queue = WorkQueue(timer)
        if queue in self._tokens:
            return False

        def fire() -> None:
            del self._tokens[queue]
            self._queues[queue].put(Parcel(body_of(tick_of(queue, source=self._name, now=self._clock.now()))))

        self._tokens[queue] = asyncio.get_running_loop().call_later(interval_s, fire)
        return True

    @asynccontextmanager
    async def work(self, queue: WorkQueue, handler: Handler, *, concurrency: int) -> AsyncIterator[Worker]:
        place = self._queues[queue]
        worker = Worker(handler, concurrency, place.dispatch)
        place.workers.append(worker)
        place.dispatch()
        try:
            yield worker
        finally:
            place.workers.remove(worker)
            await worker.cancel()

    async def waiting(self, queue: WorkQueue) -> int:
        return self._queues[queue].waiting

    # -- the event log

    async def publish(self, event: Event) -> None:
        self._must_be_open()
        heard = decode(body_of(event))
        assert not isinstance(heard, Command | Tick)
        self._log.append(_Entry(self._next_place, self._clock.now(), heard))
        self._next_place += 1
        for reader in self._readers:
            reader.set()
        for listener in self._listeners:
            if event.type in listener[0]:
                asyncio.get_running_loop().call_soon(self._tell, listener, heard)

    def _tell(self, listener: tuple[frozenset[str], Callable[[Event], None]], event: Event) -> None:
        if listener not in self._listeners:
            return  # gone since
        try:
            listener[1](event)
        except Exception:
            log.exception("a listener failed on %s", event.type)

    @asynccontextmanager
    async def listen(self, types: frozenset[str], on_event: Callable[[Event], None]) -> AsyncIterator[None]:
        listener = (types, on_event)
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def read(self, start: Start) -> AsyncGenerator[Logged]:
        """A reader that falls a whole log behind is told so by CursorGone."""
        place = self._place_after(start)
        news = asyncio.Event()
        self._readers.add(news)
        try:
            while True:
                news.clear()
                self._must_be_open()
                while place < self._next_place:
                    oldest = self._next_place - len(self._log)
                    if place < oldest:
                        raise CursorGone(f"the log begins at {oldest}, after {place}")
                    entry = self._log[place - oldest]
                    place += 1
                    yield Logged(f"{self._epoch}.{entry.place}", entry.event)
                await news.wait()
        finally:
            self._readers.discard(news)

    def _place_after(self, start: Start) -> int:
        oldest = self._next_place - len(self._log)
        if not isinstance(start, After):
            moment = whole_ms(start.moment)  # as the clock has it
            return next((entry.place for entry in self._log if entry.at >= moment), self._next_place)
        epoch, _, place = start.cursor.rpartition(".")
        if epoch != self._epoch or not place.isdecimal() or not oldest <= int(place) < self._next_place:
            raise CursorGone(f"the log does not hold {start.cursor[:80]!r}")
        return int(place) + 1

    # -- dead letters

    def _dead_letter(self, queue: WorkQueue, parcel: Parcel, reason: str) -> None:
        if queue is WorkQueue.DEAD:
            log.warning("a dead letter cannot be handled either and is only kept: %s", reason)
            return
        log.warning("a message of %s is dead: %s", queue, reason)
        letter = DeadLetter(secrets.token_hex(8), parcel.body, reason, queue.value, self._clock.now())
        self._dead.append(letter)
        work = self._queues[WorkQueue.DEAD]
        if work.waiting >= MAX_DEAD:
            work.forget_oldest()
        work.put(Parcel(parcel.body, letter))

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

    def _must_be_open(self) -> None:
        if self._closed:
            raise Unavailable("bus", "it is closed")
