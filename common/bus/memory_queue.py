"""A work queue within one process, and the workers on it."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from common.bus.handling import handle, key_of, order_in
from common.bus.port import DeadLetter, Done, Handler, Outcome, Reject, Retry, WorkQueue
from common.domain.errors import Invalid


@dataclass(slots=True, eq=False)
class Parcel:
    """A message on its way; it is a `letter` in the queue of the dead, and nowhere else."""

    body: bytes
    letter: DeadLetter | None = None
    failures: int = 0
    number: int = 0


class Worker:
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
    def in_hand(self) -> int:
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


class Queue:
    """First in, first out, to whichever worker has the least to do."""

    def __init__(
        self, name: WorkQueue, *, dead_letter: Callable[[WorkQueue, Parcel, str], None], retry_delays: Sequence[float]
    ) -> None:
        self.workers: list[Worker] = []
        self._name = name
        self._dead_letter = dead_letter
        self._retry_delays = retry_delays
        self._ready: deque[Parcel] = deque()
        self._delayed: set[asyncio.TimerHandle] = set()
        self._numbers = itertools.count()
        # by key, what has come for a handler at work: the first parcel decides, all are settled with it
        self._in_hand: dict[str, list[Parcel]] = {}

    @property
    def waiting(self) -> int:
        return len(self._ready) + len(self._delayed)

    def put(self, parcel: Parcel, delay_s: float = 0) -> None:
        if delay_s <= 0:
            parcel.number = next(self._numbers)
            self._ready.append(parcel)
            self.dispatch()
            return

        def due() -> None:
            self._delayed.discard(timer)
            self.put(parcel)

        timer = asyncio.get_running_loop().call_later(delay_s, due)
        self._delayed.add(timer)

    def forget_oldest(self) -> None:
        self._ready.popleft()

    def close(self) -> None:
        for timer in self._delayed:
            timer.cancel()
        self._delayed.clear()
        self._ready.clear()

    def dispatch(self) -> None:
        while self._ready and (free := [worker for worker in self.workers if worker.is_free]):
            parcel = self._ready.popleft()
            try:
                message = parcel.letter or order_in(self._name, parcel.body)
            except Invalid as error:
                self._dead_letter(self._name, parcel, error.detail)
                continue
            key = key_of(message)
            if key in self._in_hand:
                self._in_hand[key].append(parcel)
                continue
            self._in_hand[key] = [parcel]
            worker = min(free, key=lambda worker: worker.in_hand)
            # the next one's turn, should both have the same to do
            self.workers.remove(worker)
            self.workers.append(worker)
            run = handle(worker.handler, message, failures=parcel.failures, retry_delays=self._retry_delays)
            task = asyncio.create_task(run, context=worker.context.copy())
            worker.tasks.add(task)
            task.add_done_callback(partial(self._ended, worker, key))

    def _ended(self, worker: Worker, key: str, task: asyncio.Task[tuple[Outcome, int]]) -> None:
        worker.tasks.discard(task)
        parcels = self._in_hand.pop(key)
        if task.cancelled():
            # each at the place it had: several may come back, in any order
            self._ready = deque(sorted([*parcels, *self._ready], key=lambda parcel: parcel.number))
        else:
            parcel = parcels[0]
            outcome, parcel.failures = task.result()
            match outcome:
                case Done():
                    pass
                case Retry(after_s):
                    self.put(parcel, after_s)
                case Reject(reason):
                    self._dead_letter(self._name, parcel, reason)
        self.dispatch()
