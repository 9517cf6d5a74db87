"""A consumer of a work queue, whose handlers keep running while its channel is reopened.

    broker ──▶ callback ──▶ handler task ──▶ handler ──▶ settle: publish a retry or dead letter, confirmed, then ack

The library's callback only starts a handler task, because the callback is cancelled when the connection is lost and the
handler must not be. After a reconnect the broker redelivers each message without an ack, and the new delivery is
attached to the handler task that still runs. Another message for the same image waits until this one has ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from aiormq.abc import DeliveredMessage

from common.bus.handling import deduplication_key, parse_work_message, run_handler
from common.bus.port import DeadLetter, Done, Handler, Outcome, Reject, Retry, WorkQueue
from common.bus.rabbitmq.codec import Delivery, check_properties, expired_at, parse_dead_letter, with_traceparent
from common.bus.rabbitmq.connection import BrokerConnection, ResetBackoff, Session
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, describe_error, error_reason
from common.bus.rabbitmq.handler_tasks import HandlerTask, RunningHandlers
from common.bus.rabbitmq.topology import DELIVERY_LIMIT, QueueSpec, Route
from common.domain.errors import Invalid, Misconfigured, Unavailable
from common.messages import Command, Tick

log = logging.getLogger(__name__)

SETTLE_RETRY_S: Final = 1.0  # between two attempts to publish a retry or a dead letter
# A message in hand that came back this often, because its connection was cut, is replaced by a copy, which counts anew.
MAX_RETURNS: Final = DELIVERY_LIMIT // 2


# Publishes a retry or a dead letter: (delivery, outcome, failures). Raises Unavailable.
Republish = Callable[[Delivery, Retry | Reject, int], Awaitable[None]]


class RabbitConsumer:
    """`running` is shared by all consumers of this queue in the process. A `pool_queue` is declared first."""

    def __init__(
        self,
        queue: WorkQueue,
        handler: Handler,
        *,
        route: Route,
        pool_queue: QueueSpec | None,
        concurrency: int,
        connection: BrokerConnection,
        running: RunningHandlers,
        republish: Republish,
        retry_delays: Sequence[float],
    ) -> None:
        self.unready_reason = "not consuming yet"
        self.attempted = asyncio.Event()
        self._queue = queue
        self._route = route
        self._pool_queue = pool_queue
        self._handler = handler
        self._concurrency = concurrency
        self._prefetch = 0  # of the AMQP consumer
        self._connection = connection
        self._running = running
        self._republish = republish
        self._retry_delays = retry_delays
        self._own_tasks: set[HandlerTask] = set()
        self._unacknowledged: set[HandlerTask] = set()  # of these; they count for the concurrency
        self._cancelled_tasks: list[HandlerTask] = []
        # At most one prefetch: after a reconnect more messages are redelivered than handlers may start, and a message
        # waits here while another one for its image is handled.
        self._pending: deque[HandlerTask] = deque()
        self._session: Session | None = None
        self._consumer_tag: str | None = None
        self._state_lock = asyncio.Lock()
        self._paused = False
        self._drained = False

    @property
    def in_flight(self) -> int:
        return len(self._own_tasks)

    async def run(self) -> None:
        """Consume until cancelled."""
        self._running.on_end.add(self._start_pending)
        try:
            await self._connection.run_sessions(self._use_session, self._on_failure)
        finally:
            self._running.on_end.discard(self._start_pending)

    async def pause(self) -> None:
        self._paused = True
        await self._update_consuming()

    async def resume(self) -> None:
        self._paused = False
        await self._update_consuming()

    async def limit(self, concurrency: int) -> None:
        self._concurrency = concurrency
        await self._update_consuming()
        self._start_pending()

    async def drain(self, timeout_s: float) -> bool:
        self._drained = True
        await self._update_consuming()
        tasks = [handler_task.task for handler_task in self._own_tasks if handler_task.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        return not self._own_tasks

    async def cancel(self) -> None:
        """Cancel the running handlers; their messages return to the queue when the channel is closed."""
        self._drained = True
        self._cancelled_tasks = list(self._own_tasks)
        tasks = [handler_task.task for handler_task in self._cancelled_tasks if handler_task.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def requeue_cancelled(self) -> None:
        """Return the deliveries of cancelled handlers that came by another consumer's channel, which stays open."""
        left = [handler_task for handler_task in self._cancelled_tasks if not handler_task.is_acknowledged]
        for delivery in [delivery for handler_task in left for delivery in handler_task.deliveries]:
            if not delivery.is_stale:
                await delivery.requeue()

    # -- the channel

    async def _use_session(self, session: Session, reset_backoff: ResetBackoff) -> None:
        if self._pool_queue is not None:
            await self._connection.declare(self._pool_queue.prefixed(self._connection.prefix))
        self._prefetch = 0
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
        log.warning("%s cannot be consumed, retrying: %s", self._queue, self.unready_reason)

    @property
    def _wants_messages(self) -> bool:
        return not self._paused and not self._drained

    async def _apply_state(self) -> None:
        """Start or cancel the AMQP consumer."""
        async with self._state_lock:
            session = self._session
            if session is None or session.lost.is_set():
                return
            async with deadline(self._connection.timeout_s):
                is_wanted = self._wants_messages and self._prefetch == self._concurrency
                if self._consumer_tag is not None and not is_wanted:
                    tag, self._consumer_tag = self._consumer_tag, None
                    await session.raw.basic_cancel(tag)
                if self._wants_messages and self._consumer_tag is None:
                    if self._prefetch != self._concurrency:
                        # it counts for the consumers that begin after it, so a new limit takes a new consumer
                        await session.raw.basic_qos(prefetch_count=self._concurrency)
                        self._prefetch = self._concurrency
                    name = self._connection.prefix + self._route.queue
                    self._consumer_tag = (await session.raw.basic_consume(name, self._on_message)).consumer_tag

    async def _update_consuming(self) -> None:
        try:
            await self._apply_state()
        except BrokerUnavailable as error:  # the channel is lost; the state is applied to the next one
            log.debug("%s: cannot start or cancel the consumer: %s", self._queue, error.reason)
        while self._pending and not self._wants_messages:
            for delivery in self._pending.popleft().deliveries:
                await delivery.requeue()

    # -- handler tasks

    async def _on_message(self, raw: DeliveredMessage) -> None:
        delivery = Delivery(raw)
        message = self._parse(delivery)
        key = f"poison {id(delivery)}" if isinstance(message, Invalid) else deduplication_key(message)
        running = self._running.by_key.get(key)
        if running is not None and running.is_for(delivery):
            await self._attach(running, delivery)
            return
        waiting = next((each for each in self._pending if each.key == key and not each.is_stale), None)
        if waiting is not None:
            await self._attach(waiting, delivery)
            return
        self._pending.append(HandlerTask(key, message, [delivery], contextvars.copy_context()))
        self._start_pending()

    async def _attach(self, handler_task: HandlerTask, delivery: Delivery) -> None:
        if handler_task.is_stale and (delivery.returns < MAX_RETURNS or not await self._renew(delivery)):
            handler_task.deliveries.append(delivery)
        else:  # one unacknowledged delivery is enough if this process dies; two would use two of the prefetch
            await delivery.ack()
        log.debug("%s %s is still in progress", self._queue, handler_task.key)

    async def _renew(self, delivery: Delivery) -> bool:
        """Replace a message in hand by a copy, so that lost connections never make it a dead letter."""
        try:
            await self._republish(delivery, Retry(self._retry_delays[0]), delivery.failures)
        except Unavailable as error:
            log.debug("%s: a message that came back %d times is kept: %s", self._queue, delivery.returns, error.detail)
            return False
        return True

    def _parse(self, delivery: Delivery) -> Command | Tick | DeadLetter | Invalid:
        prefix = self._connection.prefix
        if delivery.exchange not in {prefix + exchange for exchange in self._route.exchanges}:
            way = f"the exchange {delivery.exchange!r}" if delivery.exchange else "the default exchange"
            return Invalid(f"it came by {way}, which may not lead to {self._queue}", code="wrong_exchange")
        if self._queue is WorkQueue.DEAD:
            return parse_dead_letter(delivery, prefix)
        try:
            check_properties(delivery)
            message = with_traceparent(parse_work_message(self._queue, delivery.body), delivery)
        except Invalid as error:
            return error
        fired_at = expired_at(delivery) if isinstance(message, Tick) and message.token else None
        return message.model_copy(update={"time": fired_at}) if fired_at else message

    def _start_pending(self) -> None:
        while self._wants_messages and len(self._unacknowledged) < self._concurrency:
            handler_task = next((each for each in self._pending if each.key not in self._running.by_key), None)
            if handler_task is None:
                return
            self._pending.remove(handler_task)
            if handler_task.is_stale:
                continue  # it will be redelivered
            self._running.by_key[handler_task.key] = handler_task
            self._own_tasks.add(handler_task)
            self._unacknowledged.add(handler_task)
            handler_task.task = asyncio.create_task(self._run(handler_task), context=handler_task.context)
            handler_task.task.add_done_callback(partial(self._on_task_done, handler_task))

    async def _run(self, handler_task: HandlerTask) -> None:
        try:
            outcome, failures = await self._run_handler(handler_task)
            await self._settle(handler_task, outcome, failures)
        except Exception:
            log.exception("%s %s could not be settled and is requeued", self._queue, handler_task.key)
            await asyncio.sleep(SETTLE_RETRY_S)
            self._running.end(handler_task)
            await handler_task.requeue()

    async def _run_handler(self, handler_task: HandlerTask) -> tuple[Outcome, int]:
        if isinstance(handler_task.message, Invalid):
            return Reject(handler_task.message.detail), 0
        failures = handler_task.deliveries[0].failures
        return await run_handler(
            self._handler,
            handler_task.message,
            failures=failures,
            retry_delays=self._retry_delays,
            acknowledge=partial(self._acknowledge_early, handler_task),
        )

    async def _acknowledge_early(self, handler_task: HandlerTask) -> None:
        self._running.end(handler_task)  # before the acks: a later delivery needs a handler of its own
        self._unacknowledged.discard(handler_task)
        await handler_task.acknowledge()
        self._running.start_waiting()

    async def _settle(self, handler_task: HandlerTask, outcome: Outcome, failures: int) -> None:
        """Publish the retry or dead letter, then acknowledge: a crash between the two repeats the message."""
        while not isinstance(outcome, Done):
            try:
                await self._republish(handler_task.deliveries[0], outcome, failures)
                break
            except Unavailable as error:
                if handler_task.is_stale and not handler_task.is_acknowledged:
                    return  # it will be redelivered and handled again
                log.warning("%s %s stays unacknowledged: %s", self._queue, handler_task.key, error.detail)
                await asyncio.sleep(SETTLE_RETRY_S)
        self._running.end(handler_task)  # before the acks, as above
        await handler_task.acknowledge()

    def _on_task_done(self, handler_task: HandlerTask, _: asyncio.Task[None]) -> None:
        self._running.end(handler_task)
        self._own_tasks.discard(handler_task)
        self._unacknowledged.discard(handler_task)
        self._running.start_waiting()
