"""Jobs: the paintings in hand, each painted once however many callers wait for it.

    attend(order, key) ─▶ Job ─▶ a worker thread paints; steps cross to the loop
                           ▲
       a repeat of the key ┘      the last caller leaves ─▶ the job stops at its next step

It knows the engine and nothing of HTTP. Bounded: `concurrency` paintings at once, `max_waiting` behind them, and of the
finished ones with a key the last 64 or 64 MB, whichever is less.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from common.runtime.clock import Clock
from services.inference.engine import Engine, InferenceRequest, Picture, Preview, Stopped

log = logging.getLogger(__name__)

MAX_WAITING = 64  # at a second each, a minute: half of the 120 s that Darkroom's generator waits
PREVIEW_PACE_S = 0.5  # what is painted sooner is not worth a look, and at 4 ms each they cost under 1 %
MAX_KEPT, MAX_KEPT_BYTES = 64, 64 * 1024 * 1024  # a 2048×2048 PNG has about 8 MB


class Busy(Exception):
    """As many wait as may wait; `retry_after_s` is when the first of them should be done."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full, ask again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Closing(Exception):
    """The server is going away and takes nothing new."""


class KeyReused(Exception):
    """The idempotency key came before, with another order."""


class EngineFailed(Exception):
    """The engine broke; what broke it is in the log."""


class Job:
    """One painting. Everything is touched on the event loop only, but that its thread looks at `stop` and `viewers`."""

    def __init__(self, order: InferenceRequest, key: str | None) -> None:
        self.order = order
        self.key = key
        self.step = 0
        self.callers = 0
        self.viewers = 0  # callers that read on the way; without one no preview is made
        self.preview: tuple[int, Preview] | None = None  # the newest, and the step that it shows
        self.stop = threading.Event()
        self.outcome: Picture | Exception | None = None
        self._moved = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.outcome is not None

    async def moves_on(self, seen: int) -> None:
        """Wait until a step beyond `seen` is reached, or the job is over."""
        while self.step <= seen and not self.is_over:
            await self._moved.wait()

    async def picture(self) -> Picture:
        """The finished picture.

        Raises:
            EngineFailed, Closing: there will be none.
        """
        await self.moves_on(self.order.steps)
        if isinstance(self.outcome, Picture):
            return self.outcome
        raise self.outcome or EngineFailed("no outcome")

    @contextmanager
    def viewed(self) -> Iterator[None]:
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1

    def reach(self, step: int, preview: Preview | None) -> None:
        self.step = max(self.step, step)
        if preview is not None:
            self.preview = (step, preview)
        self._wake()

    def end(self, outcome: Picture | Exception) -> None:
        self.outcome = outcome
        self.preview = None  # the picture is there: a job that is kept keeps nothing else
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class Jobs:
    """Runs them. Belongs to one event loop; `close` must be awaited there."""

    def __init__(
        self,
        engine: Engine,
        *,
        concurrency: int,
        max_waiting: int = MAX_WAITING,
        preview_pace_s: float = PREVIEW_PACE_S,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._concurrency = concurrency
        self._most = concurrency + max_waiting
        self._preview_pace_s = preview_pace_s
        self._clock = clock
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="paint")
        self._running: dict[Job, Future[Picture]] = {}
        self._by_key: dict[str, Job] = {}
        self._kept: OrderedDict[str, Job] = OrderedDict()
        self._usual_s = 5.0  # how long one takes, until the first has shown it
        self.is_closing = False

    @property
    def waiting(self) -> int:
        return max(0, len(self._running) - self._concurrency)

    @property
    def painting(self) -> int:
        return min(len(self._running), self._concurrency)

    @asynccontextmanager
    async def attend(self, order: InferenceRequest, key: str | None = None) -> AsyncIterator[Job]:
        """Have the order painted, or join the job that has the key; leave, and a job without callers stops.

        Raises:
            Busy, Closing, KeyReused: nothing was begun.
        """
        job = self._joined(order, key) or self._begun(order, key)
        job.callers += 1
        try:
            yield job
        finally:
            job.callers -= 1
            if not job.callers and not job.is_over:
                self._stop(job)

    def drain(self) -> None:
        """Take nothing new, and give up what has not begun; what is being painted goes on."""
        self.is_closing = True
        for job, work in list(self._running.items()):
            if work.cancel():
                log.info("gave up an order that was waiting, job of %d steps", job.order.steps)

    async def close(self) -> None:
        """Stop everything at its next step, and wait for the threads."""
        self.drain()
        for job in list(self._running):
            job.stop.set()
        await asyncio.to_thread(self._pool.shutdown)

    def _joined(self, order: InferenceRequest, key: str | None) -> Job | None:
        job = (self._by_key.get(key) or self._kept.get(key)) if key is not None else None
        if job and job.order != order:
            raise KeyReused(f"this idempotency key came before with another order ({_difference(job.order, order)})")
        return job

    def _begun(self, order: InferenceRequest, key: str | None) -> Job:
        if self.is_closing:
            raise Closing("shutting down")
        if len(self._running) >= self._most:
            raise Busy(min(120, math.ceil(self._usual_s)))
        loop = asyncio.get_running_loop()
        job = Job(order, key)
        work = self._pool.submit(self._paint, job, loop)
        self._running[job] = work
        if key is not None:
            self._by_key[key] = job
        # The pool calls back in the worker thread, after the last step has been sent across.
        work.add_done_callback(lambda done: loop.call_soon_threadsafe(self._end, job, done))
        return job

    def _paint(self, job: Job, loop: asyncio.AbstractEventLoop) -> Picture:
        """In a worker thread."""

        started = shown = self._clock.monotonic()

        def on_step(step: int, steps: int, show: Callable[[], Preview] | None = None) -> None:
            nonlocal shown
            if job.stop.is_set():
                raise Stopped
            preview = None
            is_due = step < steps and self._clock.monotonic() - shown >= self._preview_pace_s
            if show and job.viewers and is_due:
                preview, shown = show(), self._clock.monotonic()
            loop.call_soon_threadsafe(job.reach, step, preview)

        picture = self._engine.paint(job.order, on_step)
        took_s = self._clock.monotonic() - started
        loop.call_soon_threadsafe(self._learn, took_s)
        log.info("painted %d×%d in %d steps, %.2f s", picture.width, picture.height, job.order.steps, took_s)
        return picture

    def _learn(self, took_s: float) -> None:
        self._usual_s += (took_s - self._usual_s) * 0.3

    def _stop(self, job: Job) -> None:
        job.stop.set()
        self._running[job].cancel()
        self._forget(job)  # a repeat of the key from now on begins anew

    def _end(self, job: Job, done: Future[Picture]) -> None:
        self._running.pop(job, None)
        self._forget(job)
        if done.cancelled():
            job.end(Closing("shutting down"))
            return
        error = done.exception()
        if error is None:
            job.end(done.result())
            self._keep(job, done.result())
        elif isinstance(error, Stopped):
            log.info("stopped at step %d of %d: nobody waits for it", job.step, job.order.steps)
            job.end(Closing("stopped"))
        else:
            log.error("the engine failed at step %d of %d", job.step, job.order.steps, exc_info=error)
            job.end(EngineFailed(f"{self._engine.name} failed: {type(error).__name__}"))

    def _forget(self, job: Job) -> None:
        if job.key is not None and self._by_key.get(job.key) is job:
            del self._by_key[job.key]

    def _keep(self, job: Job, picture: Picture) -> None:
        if job.key is None or len(picture.content) > MAX_KEPT_BYTES:
            return
        self._kept[job.key] = job
        while len(self._kept) > MAX_KEPT or self._kept_bytes() > MAX_KEPT_BYTES:
            self._kept.popitem(last=False)

    def _kept_bytes(self) -> int:
        return sum(len(job.outcome.content) for job in self._kept.values() if isinstance(job.outcome, Picture))


def _difference(one: InferenceRequest, other: InferenceRequest) -> str:
    """The names of the fields that differ."""
    return ", ".join(name for name in type(one).model_fields if getattr(one, name) != getattr(other, name))
