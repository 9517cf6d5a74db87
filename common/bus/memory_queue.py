"""A work queue within one process."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from common.bus.handling import deduplication_key, parse_work_message, run_handler
from common.bus.port import DeadLetter, Done, Handler, Outcome, Reject, Retry, WorkQueue
from common.domain.errors import Invalid


@dataclass(slots=True, eq=False)
class QueuedMessage:
    """A message in a queue; only the messages of `WorkQueue.DEAD` have a `dead_letter`."""

    body: bytes
    dead_letter: DeadLetter | None = None
    failures: int = 0
    sequence: int = 0
    is_acknowledged: bool = False


class MemoryConsumer:
    """A handler and the tasks that run it; `on_resume` is called when it takes messages again."""

    def __init__(self, handler: Handler, concurrency: int, on_resume: Callable[[], None]) -> None:
        self.handler = handler
        self.tasks: set[asyncio.Task[tuple[Outcome, int]]] = set()
        self.acknowledged = 0  # of their messages; their handlers do not count for the concurrency
        # The consumer's own context: the sender's context carries the image id of another message into the log lines.
        self.context = contextvars.copy_context()
        self._concurrency = concurrency
        self._on_resume = on_resume
        self._paused = False
        self._stopped = False

    @property
    def in_flight(self) -> int:
        return len(self.tasks)

    @property
    def is_free(self) -> bool:
        return not self._paused and not self._stopped and len(self.tasks) - self.acknowledged < self._concurrency

    async def pause(self) -> None:
        self._paused = True

    async def resume(self) -> None:
        self._paused = False
        self._on_resume()

    async def limit(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._on_resume()

    async def drain(self, timeout_s: float) -> bool:
        self._stopped = True
        if self.tasks:
            await asyncio.wait(set(self.tasks), timeout=timeout_s)
        return not self.tasks

    async def cancel(self) -> None:
        self._stopped = True
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class MemoryQueue:
    """First in, first out; each message goes to the consumer with the fewest running handlers."""

    def __init__(
        self,
        kind: WorkQueue,
        *,
        dead_letter: Callable[[QueuedMessage, str], None],
        retry_delays: Sequence[float],
    ) -> None:
        self._consumers: list[MemoryConsumer] = []
        self._kind = kind
        self._dead_letter = dead_letter
        self._retry_delays = retry_delays
        self._ready: deque[QueuedMessage] = deque()
        self._delayed: set[asyncio.TimerHandle] = set()
        self._sequence = itertools.count()
        self._in_flight: dict[str, QueuedMessage] = {}  # by deduplication key
        # For each of these keys, the message that is handled after the running one; it stands for all that came later.
        self._next: dict[str, QueuedMessage] = {}

    @property
    def waiting(self) -> int:
        return len(self._ready) + len(self._next) + len(self._delayed)

    def add_consumer(self, handler: Handler, concurrency: int) -> MemoryConsumer:
        consumer = MemoryConsumer(handler, concurrency, on_resume=self._dispatch)
        self._consumers.append(consumer)
        self._dispatch()
        return consumer

    async def remove_consumer(self, consumer: MemoryConsumer) -> None:
        self._consumers.remove(consumer)
        await consumer.cancel()

    def put(self, message: QueuedMessage, delay_s: float = 0) -> None:
        if delay_s <= 0:
            message.sequence = next(self._sequence)
            self._ready.append(message)
            self._dispatch()
            return

        def deliver() -> None:
            self._delayed.discard(timer)
            self.put(message)

        timer = asyncio.get_running_loop().call_later(delay_s, deliver)
        self._delayed.add(timer)

    def drop_oldest(self) -> None:
        self._ready.popleft()

    def close(self) -> None:
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()
        self._ready.clear()
        self._next.clear()

    def _dispatch(self) -> None:
        while self._ready and (free := [consumer for consumer in self._consumers if consumer.is_free]):
            queued = self._ready.popleft()
            try:
                message = queued.dead_letter or parse_work_message(self._kind, queued.body)
            except Invalid as error:
                self._dead_letter(queued, error.detail)
                continue
            key = deduplication_key(message)
            if key in self._in_flight:
                self._next.setdefault(key, queued)
                continue
            self._in_flight[key] = queued
            consumer = min(free, key=lambda consumer: consumer.in_flight)
            # Round robin: on a tie, the next message goes to another consumer.
            self._consumers.remove(consumer)
            self._consumers.append(consumer)
            run = run_handler(
                consumer.handler,
                message,
                failures=queued.failures,
                retry_delays=self._retry_delays,
                acknowledge=partial(self._acknowledge, consumer, key, queued),
            )
            task = asyncio.create_task(run, context=consumer.context.copy())
            consumer.tasks.add(task)
            task.add_done_callback(partial(self._on_task_done, consumer, key, queued))

    async def _acknowledge(self, consumer: MemoryConsumer, key: str, handled: QueuedMessage) -> None:
        if not handled.is_acknowledged:
            handled.is_acknowledged = True
            consumer.acknowledged += 1
            self._end(key, [])
            self._dispatch()

    def _on_task_done(
        self, consumer: MemoryConsumer, key: str, handled: QueuedMessage, task: asyncio.Task[tuple[Outcome, int]]
    ) -> None:
        consumer.tasks.discard(task)
        if handled.is_acknowledged:
            consumer.acknowledged -= 1
            handled.is_acknowledged = False  # it may be put again
        else:
            self._end(key, [handled] if task.cancelled() else [])
        if not task.cancelled():
            outcome, handled.failures = task.result()
            match outcome:
                case Done():
                    pass
                case Retry(after_s):
                    self.put(handled, after_s)
                case Reject(reason):
                    self._dead_letter(handled, reason)
        self._dispatch()

    def _end(self, key: str, returned: list[QueuedMessage]) -> None:
        """The key is free: return these messages, and the one that has waited for the key."""
        del self._in_flight[key]
        if key in self._next:
            returned = [self._next.pop(key), *returned]
        if returned:
            # Restore the original order: several messages may be returned, in any order.
            self._ready = deque(sorted([*returned, *self._ready], key=lambda message: message.sequence))
