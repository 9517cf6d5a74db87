"""A work queue within one process, and the workers on it."""

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
    """A message on its way; it is a `dead_letter` in the queue of the dead, and nowhere else."""

    body: bytes
    dead_letter: DeadLetter | None = None
    failures: int = 0
    sequence: int = 0


class MemoryConsumer:
    """One consumer: a handler, and the tasks that run it."""

    def __init__(self, handler: Handler, concurrency: int, dispatch: Callable[[], None]) -> None:
        self.handler = handler
        self.tasks: set[asyncio.Task[tuple[Outcome, int]]] = set()
        # not the sender's, whose log lines carry the id of another message
        self.context = contextvars.copy_context()
        self._concurrency = concurrency
        self._dispatch = dispatch
        self._paused = False
        self._stopped = False

    @property
    def in_flight(self) -> int:
        return len(self.tasks)

    @property
    def is_free(self) -> bool:
        return not self._paused and not self._stopped and len(self.tasks) < self._concurrency

    async def pause(self) -> None:
        self._paused = True

    async def resume(self) -> None:
        self._paused = False
        self._dispatch()

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
    """First in, first out, to whichever worker has the least to do."""

    def __init__(
        self,
        name: WorkQueue,
        *,
        dead_letter: Callable[[WorkQueue, QueuedMessage, str], None],
        retry_delays: Sequence[float],
    ) -> None:
        self.consumers: list[MemoryConsumer] = []
        self._name = name
        self._dead_letter = dead_letter
        self._retry_delays = retry_delays
        self._ready: deque[QueuedMessage] = deque()
        self._delayed: set[asyncio.TimerHandle] = set()
        self._sequence = itertools.count()
        # by key, what has come for a handler at work: the first parcel decides, all are settled with it
        self._in_flight: dict[str, list[QueuedMessage]] = {}

    @property
    def waiting(self) -> int:
        return len(self._ready) + len(self._delayed)

    def put(self, queued: QueuedMessage, delay_s: float = 0) -> None:
        if delay_s <= 0:
            queued.sequence = next(self._sequence)
            self._ready.append(queued)
            self.dispatch()
            return

        def deliver() -> None:
            self._delayed.discard(timer)
            self.put(queued)

        timer = asyncio.get_running_loop().call_later(delay_s, deliver)
        self._delayed.add(timer)

    def drop_oldest(self) -> None:
        self._ready.popleft()

    def close(self) -> None:
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()
        self._ready.clear()

    def dispatch(self) -> None:
        while self._ready and (free := [consumer for consumer in self.consumers if consumer.is_free]):
            queued = self._ready.popleft()
            try:
                message = queued.dead_letter or parse_work_message(self._name, queued.body)
            except Invalid as error:
                self._dead_letter(self._name, queued, error.detail)
                continue
            key = deduplication_key(message)
            if key in self._in_flight:
                self._in_flight[key].append(queued)
                continue
            self._in_flight[key] = [queued]
            consumer = min(free, key=lambda consumer: consumer.in_flight)
            # the next one's turn, should both have the same to do
            self.consumers.remove(consumer)
            self.consumers.append(consumer)
            run = run_handler(consumer.handler, message, failures=queued.failures, retry_delays=self._retry_delays)
            task = asyncio.create_task(run, context=consumer.context.copy())
            consumer.tasks.add(task)
            task.add_done_callback(partial(self._on_task_done, consumer, key))

    def _on_task_done(self, consumer: MemoryConsumer, key: str, task: asyncio.Task[tuple[Outcome, int]]) -> None:
        consumer.tasks.discard(task)
        group = self._in_flight.pop(key)
        if task.cancelled():
            # each at the place it had: several may come back, in any order
            self._ready = deque(sorted([*group, *self._ready], key=lambda queued: queued.sequence))
        else:
            queued = group[0]
            outcome, queued.failures = task.result()
            match outcome:
                case Done():
                    pass
                case Retry(after_s):
                    self.put(queued, after_s)
                case Reject(reason):
                    self._dead_letter(self._name, queued, reason)
        self.dispatch()
