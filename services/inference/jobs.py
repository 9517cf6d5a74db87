"""The queue of paint jobs: one job for each order, shared by all callers with the same idempotency key.

    join(order, key) ─▶ PaintJob ─▶ a worker thread paints; its steps are passed to the event loop
                           ▲
    the same key again ────┘        the last caller leaves ─▶ the job stops at its next step

It does not know HTTP. Everything is bounded: `concurrency` running jobs, `max_waiting` waiting jobs, and a cache of
finished jobs with a key (64 jobs or 64 MiB, whichever is less).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager

from common.runtime.clock import Clock
from services.inference.engine import Engine, InferenceRequest, OrderRefused, PaintedPicture, Preview, Stopped

log = logging.getLogger(__name__)

MAX_WAITING = 64  # a minute at one second each: half of the 120 s that Darkroom's generator waits
PREVIEW_INTERVAL_S = 0.5  # a preview takes 4 ms, so this costs less than 1 %
MAX_CACHED, MAX_CACHED_BYTES = 64, 64 * 1024 * 1024  # a 2048×2048 PNG has about 8 MB


class Busy(Exception):
    """The queue is full; a place should be free after `retry_after_s`."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full, retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Closing(Exception):
    """The server is shutting down and accepts no orders."""


class KeyReused(Exception):
    """The idempotency key belongs to another order."""


class EngineFailed(Exception):
    """The engine raised an error; the log has the traceback."""


class PaintJob:
    """One order in the queue. Only the event loop uses it; the worker thread only reads `stop` and `viewers`."""

    def __init__(self, order: InferenceRequest, key: str | None) -> None:
        self.order = order
        self.key = key
        self.step, self.steps = 0, order.steps
        self.callers = 0
        self.viewers = 0  # callers that read the event stream; previews are made for them only
        self.preview: tuple[int, Preview] | None = None  # the newest, with its step
        self.stop = threading.Event()
        self.outcome: PaintedPicture | Exception | None = None
        self._changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.outcome is not None

    async def wait_beyond(self, seen: int) -> None:
        """Wait until the job has passed the step `seen`, or is over."""
        while self.step <= seen and not self.is_over:
            await self._changed.wait()

    async def picture(self) -> PaintedPicture:
        """Wait for the finished picture.

        Raises:
            EngineFailed, OrderRefused, Closing: the job ended without a picture.
        """
        while not self.is_over:
            await self._changed.wait()
        if isinstance(self.outcome, PaintedPicture):
            return self.outcome
        raise self.outcome or EngineFailed("no outcome")

    def set_step(self, step: int, steps: int, preview: Preview | None) -> None:
        self.step, self.steps = max(self.step, step), steps
        if preview is not None:
            self.preview = (step, preview)
        self._wake()

    def finish(self, outcome: PaintedPicture | Exception) -> None:
        self.outcome = outcome
        self.preview = None  # a cached job holds its picture only
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class PaintQueue:
    """Runs paint jobs, each in its own thread. Belongs to one event loop; `close` must be awaited there.

    Args:
        concurrency: how many pictures are painted at once.
        max_waiting: how many more orders may wait; the next one raises `Busy`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        concurrency: int,
        max_waiting: int = MAX_WAITING,
        preview_interval_s: float = PREVIEW_INTERVAL_S,
        clock: Clock,
    ) -> None:
        self.engine = engine
        self._concurrency = concurrency
        self._max_running = concurrency + max_waiting
        self._preview_interval_s = preview_interval_s
        self._clock = clock
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="paint")
        self._running: dict[PaintJob, Future[PaintedPicture]] = {}
        self._by_key: dict[str, PaintJob] = {}
        self._cached: OrderedDict[str, PaintJob] = OrderedDict()
        self._typical_s = 5.0  # of one job; a guess until the first has finished
        self.is_closing = False

    @property
    def waiting(self) -> int:
        return max(0, len(self._running) - self._concurrency)

    @property
    def painting(self) -> int:
        return min(len(self._running), self._concurrency)

    @asynccontextmanager
    async def join(
        self, order: InferenceRequest, key: str | None = None, *, views: bool = False
    ) -> AsyncIterator[PaintJob]:
        """Start a job for the order, or join the job with the same key. A job without callers is stopped.

        Args:
            views: the caller shows previews.

        Raises:
            Busy, Closing, KeyReused: no job was started.
        """
        job = self._existing(order, key) or self._start(order, key)
        job.callers += 1
        job.viewers += views
        try:
            yield job
        finally:
            job.callers -= 1
            job.viewers -= views
            if not job.callers and not job.is_over:
                job.stop.set()
                self._running[job].cancel()
                self._forget(job)  # the next order with this key starts a new job

    async def drain(self) -> None:
        """Accept no more orders and cancel waiting jobs; running jobs go on."""
        self.is_closing = True
        for job, work in list(self._running.items()):
            if work.cancel():
                log.info("cancelled a waiting job of %d steps", job.order.steps)

    async def close(self) -> None:
        """Stop all jobs at their next step, and wait for the threads."""
        await self.drain()
        for job in list(self._running):
            job.stop.set()
        await asyncio.to_thread(self._pool.shutdown)

    def _existing(self, order: InferenceRequest, key: str | None) -> PaintJob | None:
        job = (self._by_key.get(key) or self._cached.get(key)) if key is not None else None
        if job and job.order != order:
            raise KeyReused(f"the idempotency key belongs to an order with another {_difference(job.order, order)}")
        return job

    def _start(self, order: InferenceRequest, key: str | None) -> PaintJob:
        if self.is_closing:
            raise Closing("the server is shutting down")
        if len(self._running) >= self._max_running:
            raise Busy(min(120, math.ceil(self._typical_s)))
        loop = asyncio.get_running_loop()
        job = PaintJob(order, key)
        # with the context of the order that has begun it: log lines name its image and its trace
        context = contextvars.copy_context()
        work = self._pool.submit(context.run, self._paint, job, loop)
        self._running[job] = work
        if key is not None:
            self._by_key[key] = job
        # The pool calls this in the worker thread, after the last step has been passed to the loop.
        work.add_done_callback(lambda done: loop.call_soon_threadsafe(self._finish, job, done, context=context))
        return job

    def _paint(self, job: PaintJob, loop: asyncio.AbstractEventLoop) -> PaintedPicture:
        """Runs in a worker thread."""
        started = shown = self._clock.monotonic()

        def on_step(step: int, steps: int, show: Callable[[], Preview] | None = None) -> None:
            nonlocal shown
            if job.stop.is_set():
                raise Stopped
            preview = None
            is_due = step < steps and self._clock.monotonic() - shown >= self._preview_interval_s
            if show and job.viewers and is_due:
                preview, shown = show(), self._clock.monotonic()
            loop.call_soon_threadsafe(job.set_step, step, steps, preview)

        picture = self.engine.paint(job.order, on_step)
        took_s = self._clock.monotonic() - started
        self._typical_s += (took_s - self._typical_s) * 0.3  # if two threads end at once, one is not counted
        log.info("painted %d×%d in %d steps, %.2f s", picture.width, picture.height, job.steps, took_s)
        return picture

    def _finish(self, job: PaintJob, done: Future[PaintedPicture]) -> None:
        self._running.pop(job, None)
        self._forget(job)
        if done.cancelled():
            job.finish(Closing("the server is shutting down"))
            return
        error = done.exception()
        if error is None:
            job.finish(done.result())
            self._cache(job, done.result())
        elif isinstance(error, Stopped):
            log.info("stopped at step %d of %d: no caller is left", job.step, job.steps)
            job.finish(Closing("stopped"))
        elif isinstance(error, OrderRefused):
            log.info("refused an order: %s", error)
            job.finish(error)
        else:
            log.error("the engine failed at step %d of %d", job.step, job.steps, exc_info=error)
            job.finish(EngineFailed(f"{self.engine.name} failed: {type(error).__name__}"))

    def _forget(self, job: PaintJob) -> None:
        if job.key is not None and self._by_key.get(job.key) is job:
            del self._by_key[job.key]

    def _cache(self, job: PaintJob, picture: PaintedPicture) -> None:
        if job.key is None or len(picture.content) > MAX_CACHED_BYTES:
            return
        self._cached[job.key] = job
        while len(self._cached) > MAX_CACHED or sum(map(_size, self._cached.values())) > MAX_CACHED_BYTES:
            self._cached.popitem(last=False)


def _size(job: PaintJob) -> int:
    return len(job.outcome.content) if isinstance(job.outcome, PaintedPicture) else 0


def _difference(one: InferenceRequest, other: InferenceRequest) -> str:
    """The names of the fields that differ, joined by commas."""
    return ", ".join(name for name in type(one).model_fields if getattr(one, name) != getattr(other, name))
