"""The bus on RabbitMQ, composed of three connections.

publish connection ── Publisher     separate, because in an alarm the broker blocks a connection that publishes
consume connection ── RabbitConsumer, Subscriber, DeadLetterQueue
read connection    ── EventLog      opened by the first reader
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from common.bus.handling import encode_body, one_line, queue_of, timer_tick
from common.bus.port import Consumer, DeadLetter, Handler, Logged, Reject, Retry, Start, WorkQueue
from common.bus.rabbitmq.codec import Delivery, amqp_copy, amqp_message, dead_letter_headers, parse_dead_letter
from common.bus.rabbitmq.connection import BrokerConnection
from common.bus.rabbitmq.consumer import RabbitConsumer
from common.bus.rabbitmq.dead_letters import DeadLetterQueue
from common.bus.rabbitmq.deadlines import BrokerUnavailable, deadline, wait_for_event
from common.bus.rabbitmq.declaring import PoolQueues, declare_topology
from common.bus.rabbitmq.event_log import EventLog
from common.bus.rabbitmq.handler_tasks import RunningHandlers
from common.bus.rabbitmq.publisher import EventPublisher, Publisher, QueueFull
from common.bus.rabbitmq.subscriber import Subscriber
from common.bus.rabbitmq.topology import (
    DEAD,
    ROUTES,
    TIMERS_WAIT,
    Route,
    Topology,
    pool_queue,
    route_of,
    subscriber_queue,
    wait_queue,
    work_queue_name,
)
from common.bus.rabbitmq.transport import node_urls
from common.bus.rabbitmq.upgrade import Upgrade
from common.bus.tasks import StartTask, task_scope
from common.domain.errors import Misconfigured, Unavailable
from common.domain.pools import DEFAULT_POOL
from common.messages import Command, Event, Tick
from common.runtime.clock import Clock, SystemClock

log = logging.getLogger(__name__)


class RabbitBus:
    """Use `RabbitBus.open` to create one."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        clock: Clock,
        topology: Topology,
        timeout_s: float,
        heartbeat: int,
        start_task: StartTask,
    ) -> None:
        def connection(purpose: str, *, ends_when_misconfigured: bool = True) -> BrokerConnection:
            return BrokerConnection(
                node_urls(url),
                prefix=topology.prefix,
                name=f"{name} {purpose}",
                heartbeat=heartbeat,
                timeout_s=timeout_s,
                prepare=partial(declare_topology, topology=topology),
                ends_when_misconfigured=ends_when_misconfigured,
            )

        self._name = name
        self._clock = clock
        self._topology = topology
        self._timeout_s = timeout_s
        self._start_task = start_task
        self._publish_connection, self._consume_connection = connection("publish"), connection("consume")
        self._read_connection = connection("read", ends_when_misconfigured=False)  # the others were up before
        self._publisher = Publisher(self._publish_connection)
        self._events = EventPublisher(self._publisher)
        self._log = EventLog(self._read_connection)
        self._is_reading = False
        self._running: defaultdict[str, RunningHandlers] = defaultdict(RunningHandlers)  # by name of the queue
        self._pools = PoolQueues(self._publish_connection)
        self._dead_letter_queue = DeadLetterQueue(self._consume_connection, self._publisher, self._pools)
        self._consumers: list[RabbitConsumer | Subscriber] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        name: str,
        clock: Clock | None = None,
        retry_delays: Sequence[float] = (5, 30, 120),
        timeout_s: float = 5,
        heartbeat: int = 10,
        log_age_s: float = 3600,
        log_bytes: int = 500_000_000,
        log_segment: int = 20_000_000,
        prefix: str = "",
        deployment: str | None = None,
    ) -> AsyncIterator[RabbitBus]:
        """Connect, and reconnect until the end of the block.

        Yields after the first attempt, successful or not. An unreachable broker is retried without a limit, and
        `unready_reason` reports it.

        Raises:
            Misconfigured: the credentials, the virtual host, the rights or the arguments of a queue are wrong, or
                another deployment uses the same names. If the broker is reached only later, the block is cancelled and
                raises this.
        """
        topology = Topology(tuple(retry_delays), log_age_s, log_bytes, log_segment, prefix, deployment)
        async with task_scope() as start_task:
            bus = cls(
                url,
                name=name,
                clock=clock or SystemClock(),
                topology=topology,
                timeout_s=timeout_s,
                heartbeat=heartbeat,
                start_task=start_task,
            )
            await bus._wait_for_first_attempt()
            yield bus

    async def _wait_for_first_attempt(self) -> None:
        connections = (self._publish_connection, self._consume_connection)
        for connection in connections:
            self._start_task(connection.run())
        self._start_task(self._publisher.run())
        upgrade = Upgrade(self._consume_connection, self._publisher, self._topology.retry_delays)
        self._start_task(upgrade.run())
        for connection in connections:
            await connection.attempted.wait()
        if not self._publish_connection.unready_reason:
            await wait_for_event(self._publisher.ready, self._timeout_s)
        if not self._consume_connection.unready_reason:
            await wait_for_event(upgrade.attempted, self._timeout_s)

    @property
    def unready_reason(self) -> str:
        reading = self._log.unready_reason if self._is_reading else ""
        parts = (
            self._publisher.unready_reason,
            self._consume_connection.unready_reason,
            reading,
            *(consumer.unready_reason for consumer in self._consumers),
        )
        return next(filter(None, parts), "")

    @property
    def warning(self) -> str:
        return self._events.warning

    async def send(self, command: Command, *, delay_s: float = 0, pool: str = DEFAULT_POOL) -> None:
        """The delay is that of the shortest retry queue of at least `delay_s`, else of the longest."""
        queue = queue_of(command)
        route = route_of(queue, pool)
        exchange = self._topology.retry_exchange(delay_s) if delay_s > 0 else route.exchange
        message = amqp_message(command, encode_body(command))
        async with self._pools.declared(queue, pool):
            await self._publisher.publish(exchange, route.key, message)

    async def publish(self, event: Event) -> None:
        await self._events.publish(event.type, amqp_message(event, encode_body(event)))

    async def publish_several(self, events: Sequence[Event]) -> list[Unavailable | None]:
        messages = [amqp_message(event, encode_body(event)) for event in events]
        return await self._events.publish_several(events[0].type, messages) if events else []

    async def tick(self, tick: Tick) -> None:
        route = ROUTES[WorkQueue(tick.type)]
        await self._publisher.publish(route.exchange, route.key, amqp_message(tick, encode_body(tick)))

    async def arm(self, timer: str, *, interval_s: float) -> bool:
        token = timer_tick(WorkQueue(timer), source=self._name, now=self._clock.now())
        queue = wait_queue(WorkQueue(timer), interval_s)
        try:
            await self._publish_connection.declare(queue.prefixed(self._topology.prefix))
        except Misconfigured as error:
            raise BrokerUnavailable(error.detail) from error
        try:
            await self._publisher.publish(TIMERS_WAIT, queue.name, amqp_message(token, encode_body(token)))
        except QueueFull:
            return False
        return True

    async def _republish(
        self, queue: WorkQueue, route: Route, delivery: Delivery, outcome: Retry | Reject, failures: int
    ) -> None:
        key = route.key
        match outcome:
            case Retry(after_s):
                headers: dict[str, Any] = {"failures": failures} if failures else {}
                if queue is WorkQueue.DEAD:
                    letter = parse_dead_letter(delivery, self._topology.prefix)
                    headers |= dead_letter_headers(letter.reason, letter.queue, letter.died_at)
                await self._publisher.publish(self._topology.retry_exchange(after_s), key, amqp_copy(delivery, headers))
            case Reject(reason) if queue is WorkQueue.DEAD:
                log.warning("a dead letter could not be handled and is only kept: %s", one_line(reason))
            case Reject(reason):
                name = work_queue_name(route.queue)
                log.warning("a message of %s becomes a dead letter: %s", name, one_line(reason))
                headers = dead_letter_headers(reason, name, self._clock.now())
                await self._publisher.publish(DEAD, key, amqp_copy(delivery, headers))

    # -- consuming

    @asynccontextmanager
    async def consume(
        self, queue: WorkQueue, handler: Handler, *, concurrency: int, pool: str = DEFAULT_POOL
    ) -> AsyncIterator[Consumer]:
        route = route_of(queue, pool)

        async def republish(delivery: Delivery, outcome: Retry | Reject, failures: int) -> None:
            await self._republish(queue, route, delivery, outcome, failures)

        consumer = RabbitConsumer(
            queue,
            handler,
            route=route,
            pool_queue=pool_queue(pool) if route != ROUTES[queue] else None,
            concurrency=concurrency,
            connection=self._consume_connection,
            running=self._running[route.queue],
            republish=republish,
            retry_delays=self._topology.retry_delays,
        )
        async with self._consuming(consumer):
            try:
                yield consumer
            finally:
                await consumer.cancel()
        await consumer.requeue_cancelled()

    @asynccontextmanager
    async def subscribe(self, types: frozenset[str], on_event: Callable[[Event], None]) -> AsyncIterator[None]:
        queue = subscriber_queue(f"{self._name}-{secrets.token_hex(4)}", types).prefixed(self._topology.prefix)
        subscriber = Subscriber(queue, on_event, connection=self._consume_connection)
        async with self._consuming(subscriber):
            yield
        await subscriber.delete_queue()

    @asynccontextmanager
    async def _consuming(self, consumer: RabbitConsumer | Subscriber) -> AsyncIterator[None]:
        """Run the consumer during the block; if the broker is reachable, it is active before the block starts."""
        task = self._start_task(consumer.run())
        self._consumers.append(consumer)
        try:
            if not self._consume_connection.unready_reason:
                await wait_for_event(consumer.attempted, self._timeout_s)
            yield
        finally:
            self._consumers.remove(consumer)
            task.cancel()
            await asyncio.wait([task])

    def read(self, start: Start) -> AsyncGenerator[Logged]:
        if not self._is_reading:
            self._is_reading = True
            self._start_task(self._read_connection.run())
        return self._log.read(start)

    async def waiting(self, queue: WorkQueue, *, pool: str = DEFAULT_POOL) -> int:
        """All work queues share the retry queues; they count for GENERATE of each pool, which fill most of them."""
        name = self._topology.prefix + route_of(queue, pool).queue
        names = [name, *(self._topology.retry_queues() if queue is WorkQueue.GENERATE else ())]
        async with (
            self._pools.declared(queue, pool),
            self._consume_connection.session() as session,
            deadline(self._timeout_s),
        ):
            declared = [await session.raw.queue_declare(name, passive=True) for name in names]
        return sum(queue_ok.message_count or 0 for queue_ok in declared)

    # -- dead letters

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        return await self._dead_letter_queue.oldest(limit)

    async def count_dead_letters(self) -> int:
        return await self._dead_letter_queue.count()

    async def redrive(self, letter_id: str) -> bool:
        return await self._dead_letter_queue.redrive(letter_id)

    async def drop(self, letter_id: str) -> bool:
        return await self._dead_letter_queue.drop(letter_id)
