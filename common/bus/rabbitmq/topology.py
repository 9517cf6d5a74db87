"""The topology: names, types and arguments of all exchanges and queues.

Arguments are immutable, so the names of queues contain a version.

            ┌── image.retry.<ms> ──▶ image.retry.<ms>.v1 ──(expires)──┐
            │                                                         ▼
    send ───┴──────────────────────────────────────────────▶ image.commands ──▶ image.commands.<key>.v1 ──▶ a consumer
    arm ──▶ image.timer.<name>.wait.<ms>.v1 ──(expires)──▶ image.timers ──▶ image.timer.<name>.v1 ──▶ a consumer
    publish ──▶ image.events ──▶ image.events.log.v1 (a stream) and image.events.<process> (subscribers)
    reject, delivery limit ──▶ image.dead ──▶ image.dead.v1 (kept for operators), image.dead.work.v1 ──▶ a consumer

RabbitMQ 3.10.8, 4.0 and 4.3 all accept every argument (tested).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from common.bus.port import WorkQueue
from common.domain.errors import Misconfigured

log = logging.getLogger(__name__)

COMMANDS: Final = "image.commands"
EVENTS: Final = "image.events"
TIMERS: Final = "image.timers"
DEAD: Final = "image.dead"
LOG_QUEUE: Final = "image.events.log.v1"
DEAD_QUEUE: Final = "image.dead.v1"

# A message that was redelivered this often was never acknowledged: it kills its consumers.
DELIVERY_LIMIT: Final = 20
# Each listing of the dead letters counts as a delivery, and 4.x drops a message after 20 by default.
DEAD_DELIVERY_LIMIT: Final = 1_000_000
SUBSCRIBER_EXPIRES_MS: Final = 600_000  # the queue of a process that crashed is deleted after 10 min
SUBSCRIBER_MAX_LENGTH: Final = 10_000  # events of 3 min at full speed; above it the oldest are dropped

_AT_LEAST_ONCE: Final = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


@dataclass(frozen=True, slots=True)
class Route:
    """The exchange, routing key and queue of a work queue."""

    exchange: str
    key: str
    queue: str


ROUTES: Final = {
    WorkQueue.GENERATE: Route(COMMANDS, "generate", "image.commands.generate.v1"),
    WorkQueue.CANCEL: Route(COMMANDS, "cancel", "image.commands.cancel.v1"),
    WorkQueue.RECONCILE: Route(TIMERS, "reconcile", "image.timer.reconcile.v1"),
    WorkQueue.PURGE: Route(TIMERS, "purge", "image.timer.purge.v1"),
    WorkQueue.SWEEP: Route(TIMERS, "sweep", "image.timer.sweep.v1"),
    WorkQueue.DEAD: Route(DEAD, "dead", "image.dead.work.v1"),
}


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A durable queue; `bindings` are pairs of exchange and routing key."""

    name: str
    arguments: dict[str, Any]
    bindings: tuple[tuple[str, str], ...] = ()


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def retry_exchange_name(delay_s: float) -> str:
    """The name of the retry exchange; the name of its queue adds the version."""
    return f"image.retry.{milliseconds(delay_s)}"


def wait_queue(timer: WorkQueue, interval_s: float) -> QueueSpec:
    """The queue where the token of a timer waits for its interval; it holds one message and refuses a second."""
    interval_ms = milliseconds(interval_s)
    route = ROUTES[timer]
    arguments = {
        "x-queue-type": "classic",
        "x-message-ttl": interval_ms,
        "x-max-length": 1,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": TIMERS,
        "x-dead-letter-routing-key": route.key,
    }
    return QueueSpec(f"image.timer.{route.key}.wait.{interval_ms}.v1", arguments)


def subscriber_queue(process: str, types: frozenset[str]) -> QueueSpec:
    arguments = {
        "x-queue-type": "classic",
        "x-expires": SUBSCRIBER_EXPIRES_MS,
        "x-max-length": SUBSCRIBER_MAX_LENGTH,
    }
    return QueueSpec(f"image.events.{process}", arguments, tuple((EVENTS, key) for key in sorted(types)))


@dataclass(frozen=True, slots=True)
class Topology:
    """The exchanges and queues that every process declares when it connects; existing ones stay unchanged."""

    retry_delays: Sequence[float]
    log_age_s: float
    log_bytes: int
    log_segment: int
    exchanges: dict[str, str] = field(init=False)
    queues: tuple[QueueSpec, ...] = field(init=False)

    def __post_init__(self) -> None:
        retries = {retry_exchange_name(delay_s): "fanout" for delay_s in self.retry_delays}
        exchanges = {COMMANDS: "direct", EVENTS: "topic", TIMERS: "direct", DEAD: "fanout", **retries}
        object.__setattr__(self, "exchanges", exchanges)
        object.__setattr__(
            self, "queues", (*self._work_queues(), *map(self._retry_queue, self.retry_delays), self._log_queue())
        )

    def retry_queues(self) -> list[str]:
        return [f"{retry_exchange_name(delay_s)}.v1" for delay_s in self.retry_delays]

    def retry_exchange(self, after_s: float) -> str:
        """The retry exchange with the shortest delay of at least `after_s`, else the one with the longest."""
        long_enough = [delay_s for delay_s in self.retry_delays if delay_s >= after_s]
        return retry_exchange_name(min(long_enough, default=max(self.retry_delays)))

    async def declare(self, connection: AbstractConnection) -> None:
        """Declare everything. A queue whose node is down is skipped, so the rest can be used.

        Raises:
            Misconfigured: something exists with other arguments, or this user may not declare it.
        """
        async with connection.channel(publisher_confirms=False) as channel:
            for name, kind in self.exchanges.items():
                try:
                    await channel.declare_exchange(name, kind, durable=True)
                except (ChannelPreconditionFailed, ChannelAccessRefused) as error:
                    raise _misconfigured("exchange", name, error) from error
        remaining = list(self.queues)
        while remaining:
            async with connection.channel(publisher_confirms=False) as channel:
                await _declare_all(channel, remaining)

    def _work_queues(self) -> list[QueueSpec]:
        return [
            QueueSpec(route.queue, self._arguments(queue), tuple({(route.exchange, route.key), (COMMANDS, route.key)}))
            for queue, route in ROUTES.items()
        ] + [QueueSpec(DEAD_QUEUE, {"x-queue-type": "quorum", "x-delivery-limit": DEAD_DELIVERY_LIMIT}, ((DEAD, ""),))]

    @staticmethod
    def _arguments(queue: WorkQueue) -> dict[str, Any]:
        exchange = ROUTES[queue].exchange
        if exchange == TIMERS:
            return {"x-queue-type": "classic", "x-single-active-consumer": True}
        quorum = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
        if exchange == DEAD:
            return quorum  # holds a copy: the dead letter itself stays in image.dead.v1
        return {**quorum, "x-dead-letter-exchange": DEAD, **_AT_LEAST_ONCE}

    @staticmethod
    def _retry_queue(delay_s: float) -> QueueSpec:
        # without x-dead-letter-routing-key the message keeps its routing key, which leads back to its queue
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": milliseconds(delay_s),
            "x-dead-letter-exchange": COMMANDS,
            **_AT_LEAST_ONCE,
        }
        return QueueSpec(f"{retry_exchange_name(delay_s)}.v1", arguments, ((retry_exchange_name(delay_s), ""),))

    def _log_queue(self) -> QueueSpec:
        arguments = {
            "x-queue-type": "stream",
            "x-max-age": f"{max(1, round(self.log_age_s))}s",
            "x-max-length-bytes": self.log_bytes,
            "x-stream-max-segment-size-bytes": self.log_segment,
        }
        return QueueSpec(LOG_QUEUE, arguments, ((EVENTS, "#"),))


async def _declare_all(channel: AbstractChannel, remaining: list[QueueSpec]) -> None:
    """Declare the remaining queues until one is unreachable, which closes the channel."""
    while remaining:
        queue = remaining.pop(0)
        try:
            await declare_queue(channel, queue)
        except ChannelNotFoundEntity as error:
            log.warning("the queue %s is unreachable: %s", queue.name, error.args[0])
            return


async def declare_queue(channel: AbstractChannel, queue: QueueSpec) -> None:
    """Declare a queue and its bindings.

    Raises:
        Misconfigured: the queue exists with other arguments, or this user may not declare it.
    """
    try:
        declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
        for exchange, key in queue.bindings:
            await declared.bind(exchange, key)
    except (ChannelPreconditionFailed, ChannelAccessRefused) as error:
        raise _misconfigured("queue", queue.name, error) from error


def _misconfigured(what: str, name: str, error: ChannelClosed) -> Misconfigured:
    # RabbitMQ's message names the argument, the requested value and the existing value
    return Misconfigured(f"the {what} {name} cannot be used: {error.args[0]}", code="bad_broker")
