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

from common.bus.handling import deduplication_key, parse_work_message, run_handler
from common.bus.port import DeadLetter, Done, Handler, Outcome, Reject, Retry, WorkQueue
from common.bus.rabbitmq.codec import Delivery, expired_at, parse_dead_letter
from common.bus.rabbitmq.connection import BrokerConnection, ResetBackoff, Session
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, describe_error, error_reason
from common.bus.rabbitmq.topology import ROUTES
from common.domain.errors import Invalid, Misconfigured, Unavailable
from common.messages import Command, Tick

log = logging.getLogger(__name__)

SETTLE_RETRY_S: Final = 1.0  # between two tries to publish a retry or a dead letter


@dataclass(slots=True, eq=False)
class HandlerTask:
    """One handler at work, and every delivery that its outcome settles; the first one is republished if need be."""

    key: str
    message: Command | Tick | DeadLetter | Invalid
    deliveries: list[Delivery]
    # the callback's: a trace that runs through it goes on in the job
    context: contextvars.Context
    task: asyncio.Task[None] | None = None


# How a message goes on: (delivery, outcome, failures) -> published, or Unavailable
Republish = Callable[[Delivery, Retry | Reject, int], Awaitable[None]]


class RabbitConsumer:
    """`handler_tasks` are those of all workers of this queue in the process, by key."""

    def __init__(
        self,
        queue: WorkQueue,
        handler: Handler,
        *,
        concurrency: int,
        connection: BrokerConnection,
        handler_tasks: dict[str, HandlerTask],
        republish: Republish,
        retry_delays: Sequence[float],
    ) -> None:
        self.unready_reason = "not consuming yet"
        self.attempted = asyncio.Event()
        self._queue = queue
        self._handler = handler
        self._concurrency = concurrency
        self._connection = connection
        self._handler_tasks = handler_tasks
        self._republish = republish
        self._retry_delays = retry_delays
        self._own: set[HandlerTask] = set()
        self._cancelled: list[HandlerTask] = []
        self._pending: deque[HandlerTask] = (
            deque()
        )  # at most a prefetch: a link that came back brings more than is free
        self._session: Session | None = None
        self._consumer_tag: str | None = None
        self._state_lock = asyncio.Lock()
        self._paused = False
        self._drained = False

    @property
    def in_flight(self) -> int:
        return len(self._own)

    async def run(self) -> None:
        """Consume until cancelled."""
        await self._connection.run_sessions(self._use_session, self._on_failure)

    async def pause(self) -> None:
        self._paused = True
        await self._update_consuming()

    async def resume(self) -> None:
        self._paused = False
        await self._update_consuming()

    async def drain(self, timeout_s: float) -> bool:
        self._drained = True
        await self._update_consuming()
        tasks = [running.task for running in self._own if running.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        return not self._own

    async def cancel(self) -> None:
        """Cancel what is in hand, unsettled: it goes back when the channel is closed."""
        self._drained = True
        self._cancelled = list(self._own)
        tasks = [running.task for running in self._cancelled if running.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def requeue(self) -> None:
        """What joined a cancelled job by another worker's channel: that one is not closed."""
        for delivery in [delivery for running in self._cancelled for delivery in running.deliveries]:
            if not delivery.is_stale:
                await delivery.requeue()

    # -- the channel

    async def _use_session(self, session: Session, reset_backoff: ResetBackoff) -> None:
        async with deadline(self._connection.timeout_s):
            await session.raw.basic_qos(prefetch_count=self._concurrency)
        self._session, self._consumer_tag = session, None
        try:
            await self._apply_state()
            self.unready_reason = ""
            self.attempted.set()
            reset_backoff()
            await session.lost.wait()
        finally:
            self._session, self._consumer_tag = None, None
        self.unready_reason = "the consumer was lost"
        if session.reason is not None:
            log.debug("%s: the channel was closed: %s", self._queue, describe_error(session.reason))

    def _on_failure(self, error: BrokerUnavailable | Misconfigured, _: int) -> None:
        self.unready_reason = error_reason(error)
        self.attempted.set()
        log.warning("%s cannot be consumed, trying again: %s", self._queue, self.unready_reason)

    @property
    def _is_consuming(self) -> bool:
        return not self._paused and not self._drained

    async def _apply_state(self) -> None:
        """Consume or not, as it should be."""
        async with self._state_lock:
            session = self._session
            if session is None or session.lost.is_set():
                return
            async with deadline(self._connection.timeout_s):
                if self._is_consuming and self._consumer_tag is None:
                    queue = await session.channel.get_queue(ROUTES[self._queue].queue, ensure=False)
                    self._consumer_tag = await queue.consume(partial(self._on_message, session))
                elif not self._is_consuming and self._consumer_tag is not None:
                    tag, self._consumer_tag = self._consumer_tag, None
                    await session.raw.basic_cancel(tag)

    async def _update_consuming(self) -> None:
        try:
            await self._apply_state()
        except (
            BrokerUnavailable
        ) as error:  # the channel is gone, and with it the consumer: the next one will be as it should
            log.debug("%s: the consumer could not be switched: %s", self._queue, error.reason)
        while self._pending and not self._is_consuming:
            for delivery in self._pending.popleft().deliveries:
                await delivery.requeue()

    # -- jobs

    async def _on_message(self, session: Session, incoming: AbstractIncomingMessage) -> None:
        delivery = Delivery(incoming, session.raw)
        message = self._parse(delivery)
        key = f"poison {id(delivery)}" if isinstance(message, Invalid) else deduplication_key(message)
        existing = self._handler_tasks.get(key)
        if existing is not None:
            await self._attach(existing, delivery)
            return
        self._pending.append(HandlerTask(key, message, [delivery], contextvars.copy_context()))
        self._start_pending()

    async def _attach(self, running: HandlerTask, delivery: Delivery) -> None:
        log.debug("%s %s is still in hand", self._queue, running.key)
        if all(other.is_stale for other in running.deliveries):
            running.deliveries.append(delivery)
        else:  # the other brings the order back should this process die; both would take two of the prefetch
            await delivery.ack()

    def _parse(self, delivery: Delivery) -> Command | Tick | DeadLetter | Invalid:
        try:
            if self._queue is WorkQueue.DEAD:
                return parse_dead_letter(delivery)
            message = parse_work_message(self._queue, delivery.body)
        except Invalid as error:
            return error
        fired_at = expired_at(delivery) if isinstance(message, Tick) and message.token else None
        return message.model_copy(update={"time": fired_at}) if fired_at else message

    def _start_pending(self) -> None:
        while self._is_consuming and self._pending and len(self._own) < self._concurrency:
            running = self._pending.popleft()
            if running.deliveries[0].is_stale:
                continue  # it comes again
            existing = self._handler_tasks.get(running.key)
            if existing is not None:
                existing.deliveries += running.deliveries
                continue
            self._handler_tasks[running.key] = running
            self._own.add(running)
            running.task = asyncio.create_task(self._run(running), context=running.context)
            running.task.add_done_callback(partial(self._on_task_done, running))

    async def _run(self, running: HandlerTask) -> None:
        try:
            outcome, failures = await self._run_handler(running)
            await self._settle(running, outcome, failures)
        except Exception:  # the top of a unit of work
            log.exception("%s %s could not be settled and goes back", self._queue, running.key)
            await asyncio.sleep(SETTLE_RETRY_S)
            self._handler_tasks.pop(running.key, None)
            for delivery in running.deliveries:
                await delivery.requeue()

    async def _run_handler(self, running: HandlerTask) -> tuple[Outcome, int]:
        if isinstance(running.message, Invalid):
            return Reject(running.message.detail), 0
        failures = running.deliveries[0].failures
        return await run_handler(self._handler, running.message, failures=failures, retry_delays=self._retry_delays)

    async def _settle(self, running: HandlerTask, outcome: Outcome, failures: int) -> None:
        """Published again before it is acked: a crash in between repeats it, and loses nothing."""
        while not isinstance(outcome, Done):
            try:
                await self._republish(running.deliveries[0], outcome, failures)
                break
            except Unavailable as error:
                if all(delivery.is_stale for delivery in running.deliveries):
                    return  # it comes again, and is handled again
                log.warning("%s %s stays in hand: %s", self._queue, running.key, error.detail)
                await asyncio.sleep(SETTLE_RETRY_S)
        self._handler_tasks.pop(running.key, None)  # first: what comes from now on is not settled by this
        for delivery in running.deliveries:
            await delivery.ack()

    def _on_task_done(self, running: HandlerTask, _: asyncio.Task[None]) -> None:
        if self._handler_tasks.get(running.key) is running:
            del self._handler_tasks[running.key]
        self._own.discard(running)
        self._start_pending()
