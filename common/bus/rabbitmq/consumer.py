"""A worker on a work queue: a channel that is reopened, and the jobs that outlive it.

    broker ──▶ take ──▶ job (a task of its own) ──▶ handler ──▶ settle: retry or dead-letter, confirmed, then ack

The callback that the library runs only hands over: it is cancelled when the link drops, a job is not. When the link
is back the broker delivers again what was not acked, and the delivery joins the job that is still at work.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aio_pika.abc import AbstractIncomingMessage

from common.bus.handling import handle, key_of, order_in
from common.bus.port import DeadLetter, Done, Handler, Outcome, Reject, Retry, WorkQueue
from common.bus.rabbitmq.codec import Delivery, left_its_wait, letter_of
from common.bus.rabbitmq.connection import Link, Session, Working
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, reason_of, text_of
from common.bus.rabbitmq.topology import ROUTES
from common.domain.errors import Invalid, Misconfigured, Unavailable
from common.messages import Command, Tick

log = logging.getLogger(__name__)

SETTLE_AGAIN_S: Final = 1.0  # between two tries to publish a retry or a dead letter


@dataclass(slots=True, eq=False)
class Job:
    """One handler at work, and every delivery that its outcome settles; the first one is republished if need be."""

    key: str
    message: Command | Tick | DeadLetter | Invalid
    deliveries: list[Delivery]
    # the callback's: a trace that runs through it goes on in the job
    context: contextvars.Context
    task: asyncio.Task[None] | None = None


# How a message goes on: (delivery, outcome, failures) -> published, or Unavailable
Forward = Callable[[Delivery, Retry | Reject, int], Awaitable[None]]


class Worker:
    """`jobs` are those of all workers of this queue in the process, by key."""

    def __init__(
        self,
        queue: WorkQueue,
        handler: Handler,
        *,
        concurrency: int,
        link: Link,
        jobs: dict[str, Job],
        forward: Forward,
        retry_delays: Sequence[float],
    ) -> None:
        self.unready_reason = "not consuming yet"
        self.tried = asyncio.Event()
        self._queue = queue
        self._handler = handler
        self._concurrency = concurrency
        self._link = link
        self._jobs = jobs
        self._forward = forward
        self._retry_delays = retry_delays
        self._mine: set[Job] = set()
        self._left: list[Job] = []
        self._pending: deque[Job] = deque()  # at most a prefetch: a link that came back brings more than is free
        self._session: Session | None = None
        self._tag: str | None = None
        self._adjusting = asyncio.Lock()
        self._paused = False
        self._drained = False

    @property
    def in_hand(self) -> int:
        return len(self._mine)

    async def keep(self) -> None:
        """Consume until cancelled."""
        await self._link.keep_session(self._use, self._failed)

    async def pause(self) -> None:
        self._paused = True
        await self._switch()

    async def resume(self) -> None:
        self._paused = False
        await self._switch()

    async def drain(self, timeout_s: float) -> bool:
        self._drained = True
        await self._switch()
        tasks = [job.task for job in self._mine if job.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        return not self._mine

    async def cancel(self) -> None:
        """Cancel what is in hand, unsettled: it goes back when the channel is closed."""
        self._drained = True
        self._left = list(self._mine)
        tasks = [job.task for job in self._left if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def give_back(self) -> None:
        """What joined a cancelled job by another worker's channel: that one is not closed."""
        for delivery in [delivery for job in self._left for delivery in job.deliveries]:
            if not delivery.is_void:
                await delivery.give_back()

    # -- the channel

    async def _use(self, session: Session, working: Working) -> None:
        async with deadline(self._link.timeout_s):
            await session.raw.basic_qos(prefetch_count=self._concurrency)
        self._session, self._tag = session, None
        try:
            await self._adjust()
            self.unready_reason = ""
            self.tried.set()
            working()
            await session.lost.wait()
        finally:
            self._session, self._tag = None, None
        self.unready_reason = "the consumer was lost"
        if session.reason is not None:
            log.debug("%s: the channel was closed: %s", self._queue, text_of(session.reason))

    def _failed(self, error: BrokerUnavailable | Misconfigured, _: int) -> None:
        self.unready_reason = reason_of(error)
        self.tried.set()
        log.warning("%s cannot be consumed, trying again: %s", self._queue, self.unready_reason)

    @property
    def _is_taking(self) -> bool:
        return not self._paused and not self._drained

    async def _adjust(self) -> None:
        """Consume or not, as it should be."""
        async with self._adjusting:
            session = self._session
            if session is None or session.lost.is_set():
                return
            async with deadline(self._link.timeout_s):
                if self._is_taking and self._tag is None:
                    queue = await session.channel.get_queue(ROUTES[self._queue].queue, ensure=False)
                    self._tag = await queue.consume(partial(self._take, session))
                elif not self._is_taking and self._tag is not None:
                    tag, self._tag = self._tag, None
                    await session.raw.basic_cancel(tag)

    async def _switch(self) -> None:
        try:
            await self._adjust()
        except (
            BrokerUnavailable
        ) as error:  # the channel is gone, and with it the consumer: the next one will be as it should
            log.debug("%s: the consumer could not be switched: %s", self._queue, error.reason)
        while self._pending and not self._is_taking:
            for delivery in self._pending.popleft().deliveries:
                await delivery.give_back()

    # -- jobs

    async def _take(self, session: Session, incoming: AbstractIncomingMessage) -> None:
        delivery = Delivery(incoming, session.raw)
        message = self._parsed(delivery)
        key = f"poison {id(delivery)}" if isinstance(message, Invalid) else key_of(message)
        running = self._jobs.get(key)
        if running is not None:
            await self._join(running, delivery)
            return
        self._pending.append(Job(key, message, [delivery], contextvars.copy_context()))
        self._start()

    async def _join(self, job: Job, delivery: Delivery) -> None:
        log.debug("%s %s is still in hand", self._queue, job.key)
        if all(other.is_void for other in job.deliveries):
            job.deliveries.append(delivery)
        else:  # the other brings the order back should this process die; both would take two of the prefetch
            await delivery.ack()

    def _parsed(self, delivery: Delivery) -> Command | Tick | DeadLetter | Invalid:
        try:
            if self._queue is WorkQueue.DEAD:
                return letter_of(delivery)
            message = order_in(self._queue, delivery.body)
        except Invalid as error:
            return error
        fired_at = left_its_wait(delivery) if isinstance(message, Tick) and message.token else None
        return message.model_copy(update={"time": fired_at}) if fired_at else message

    def _start(self) -> None:
        while self._is_taking and self._pending and len(self._mine) < self._concurrency:
            job = self._pending.popleft()
            if job.deliveries[0].is_void:
                continue  # it comes again
            running = self._jobs.get(job.key)
            if running is not None:
                running.deliveries += job.deliveries
                continue
            self._jobs[job.key] = job
            self._mine.add(job)
            job.task = asyncio.create_task(self._run(job), context=job.context)
            job.task.add_done_callback(partial(self._ended, job))

    async def _run(self, job: Job) -> None:
        try:
            outcome, failures = await self._outcome(job)
            await self._settle(job, outcome, failures)
        except Exception:  # the top of a unit of work
            log.exception("%s %s could not be settled and goes back", self._queue, job.key)
            await asyncio.sleep(SETTLE_AGAIN_S)
            self._jobs.pop(job.key, None)
            for delivery in job.deliveries:
                await delivery.give_back()

    async def _outcome(self, job: Job) -> tuple[Outcome, int]:
        if isinstance(job.message, Invalid):
            return Reject(job.message.detail), 0
        failures = job.deliveries[0].failures
        return await handle(self._handler, job.message, failures=failures, retry_delays=self._retry_delays)

    async def _settle(self, job: Job, outcome: Outcome, failures: int) -> None:
        """Published again before it is acked: a crash in between repeats it, and loses nothing."""
        while not isinstance(outcome, Done):
            try:
                await self._forward(job.deliveries[0], outcome, failures)
                break
            except Unavailable as error:
                if all(delivery.is_void for delivery in job.deliveries):
                    return  # it comes again, and is handled again
                log.warning("%s %s stays in hand: %s", self._queue, job.key, error.detail)
                await asyncio.sleep(SETTLE_AGAIN_S)
        self._jobs.pop(job.key, None)  # first: what comes from now on is not settled by this
        for delivery in job.deliveries:
            await delivery.ack()

    def _ended(self, job: Job, _: asyncio.Task[None]) -> None:
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
        self._mine.discard(job)
        self._start()
