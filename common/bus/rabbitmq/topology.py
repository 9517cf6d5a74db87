"""The topology: names, types and arguments of all exchanges and queues.

Arguments are immutable, so the names of queues contain a version.

                                        publishers ──▶ image.commands ──┐ (generate and cancel only)
                                                                        ▼
    send ──┬──▶ image.work ──┬───────────────────────────▶ image.commands.<key>.v1 ──▶ a consumer
           │        ▲        └──(generate.<pool>)────────▶ image.work.<pool>.v1 ──▶ a consumer of this pool
           └── image.retry.<ms>.v2 ──(expires)
    arm ──▶ image.timers.wait ──▶ image.timer.<name>.wait.<ms>.v1 ──(expires)──▶ image.timers ──▶ image.timer.<name>.v1
    publish ──▶ image.events ──▶ image.events.log.v1 (a stream) and image.events.<process> (subscribers)
    reject, delivery limit ──▶ image.dead ──▶ image.dead.v2 (kept for operators), image.dead.work.v2 ──▶ a consumer

Who may do what there: docs/decisions/0007-exchanges-and-rights.md. Each name begins with the prefix of the deployment.
RabbitMQ 3.10.8, 4.0 and 4.3 all accept every argument (tested).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from common.bus.port import WorkQueue
from common.bus.traced import MessageDestination
from common.domain.pools import DEFAULT_POOL

COMMANDS: Final = "image.commands"  # the only exchange of publishers
WORK: Final = "image.work"  # for the services: what they send, retries and redriven dead letters
EVENTS: Final = "image.events"
EVENTS_LOG: Final = "image.events.log"  # leads to the log alone
TIMERS: Final = "image.timers"
TIMERS_WAIT: Final = "image.timers.wait"
DEAD: Final = "image.dead"
DEPLOYMENT: Final = "image.deployment"  # carries no messages; an argument names the deployment
LOG_QUEUE: Final = "image.events.log.v1"
DEAD_QUEUE: Final = "image.dead.v2"
KEPT: Final = "kept"  # the key on `WORK` that leads to `DEAD_QUEUE` alone

# A message that was redelivered this often was never acknowledged: it kills its consumers.
DELIVERY_LIMIT: Final = 20
# Each listing of the dead letters counts as a delivery, and 4.x drops a message after 20 by default.
DEAD_DELIVERY_LIMIT: Final = 1_000_000
SUBSCRIBER_EXPIRES_MS: Final = 600_000  # the queue of a process that crashed is deleted after 10 min
SUBSCRIBER_MAX_LENGTH: Final = 10_000  # events of 3 min at full speed; above it the oldest are dropped

_POOL_QUEUE: Final = re.compile(r"image\.work\.(?P<pool>[a-z0-9-]{1,40})\.v1")
_AT_LEAST_ONCE: Final = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
_DEAD_LIMITS: Final = {"x-max-length": 10_000, "x-max-length-bytes": 100_000_000}  # above them the oldest are dropped


@dataclass(frozen=True, slots=True)
class Route:
    """The queue of a work queue, its key, and the exchanges by which a message may come to it; the first is ours."""

    exchanges: tuple[str, ...]
    key: str
    queue: str

    @property
    def exchange(self) -> str:
        return self.exchanges[0]


def _pool_route(pool: str) -> Route:
    return Route((WORK,), f"generate.{pool}", f"image.work.{pool}.v1")


ROUTES: Final = {
    WorkQueue.INTAKE: Route((WORK, COMMANDS), "generate", "image.commands.generate.v1"),
    WorkQueue.GENERATE: _pool_route(DEFAULT_POOL),
    WorkQueue.CANCEL: Route((WORK, COMMANDS), "cancel", "image.commands.cancel.v1"),
    WorkQueue.RECONCILE: Route((TIMERS, WORK), "reconcile", "image.timer.reconcile.v1"),
    WorkQueue.PURGE: Route((TIMERS, WORK), "purge", "image.timer.purge.v1"),
    WorkQueue.SWEEP: Route((TIMERS, WORK), "sweep", "image.timer.sweep.v1"),
    WorkQueue.DEAD: Route((DEAD, WORK), "dead", "image.dead.work.v2"),
}
_QUEUE_NAMES: Final = {route.queue: queue.value for queue, route in ROUTES.items()}


def route_of(queue: WorkQueue, pool: str) -> Route:
    """The route of a work queue; `GENERATE` has one for each pool."""
    return _pool_route(pool) if queue is WorkQueue.GENERATE else ROUTES[queue]


@dataclass(frozen=True, slots=True)
class RabbitNames:
    """What spans show; a command with a delay has the destination that it has after it."""

    prefix: str
    system: str = "rabbitmq"

    def work(self, queue: WorkQueue, pool: str) -> MessageDestination:
        route = route_of(queue, pool)
        return MessageDestination(self.prefix + route.exchange, route.key, self.prefix + route.queue)

    def event(self, event_type: str) -> MessageDestination:
        return MessageDestination(self.prefix + EVENTS, event_type)


def work_queue_name(name: str) -> str:
    """The port's name of the queue that has this name on the broker; any other name is returned unchanged."""
    if found := _POOL_QUEUE.fullmatch(name):
        return WorkQueue.GENERATE.of_pool(found["pool"])
    return _QUEUE_NAMES.get(name, name)


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A durable queue; `bindings` are pairs of exchange and routing key."""

    name: str
    arguments: dict[str, Any]
    bindings: tuple[tuple[str, str], ...] = ()

    def prefixed(self, prefix: str) -> QueueSpec:
        """The same queue with the prefix before every name."""
        target = "x-dead-letter-exchange"
        arguments = {name: prefix + value if name == target else value for name, value in self.arguments.items()}
        return QueueSpec(prefix + self.name, arguments, tuple((prefix + name, key) for name, key in self.bindings))


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def retry_name(delay_s: float) -> str:
    """The name of the exchange and the queue of a delay."""
    return f"image.retry.{milliseconds(delay_s)}.v2"


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
    name = f"image.timer.{route.key}.wait.{interval_ms}.v1"
    return QueueSpec(name, arguments, ((TIMERS_WAIT, name),))


def pool_queue(pool: str) -> QueueSpec:
    """The work queue of a pool. It is declared by all who send to it or consume it, and never deleted."""
    route = _pool_route(pool)
    return QueueSpec(route.queue, _arguments(WorkQueue.GENERATE), ((WORK, route.key),))


def subscriber_queue(process: str, types: frozenset[str]) -> QueueSpec:
    arguments = {
        "x-queue-type": "classic",
        "x-expires": SUBSCRIBER_EXPIRES_MS,
        "x-max-length": SUBSCRIBER_MAX_LENGTH,
    }
    return QueueSpec(f"image.events.{process}", arguments, tuple((EVENTS, key) for key in sorted(types)))


@dataclass(frozen=True, slots=True)
class Topology:
    """The exchanges and queues that every process declares when it connects; existing ones stay unchanged.

    Those of other pools than `default` are declared when they are needed.

    `exchanges` and `queues` have the prefix before their names. `deployment` is the id of the store, if it is known.
    """

    retry_delays: Sequence[float]
    log_age_s: float
    log_bytes: int
    log_segment: int
    prefix: str = ""
    deployment: str | None = None
    exchanges: dict[str, str] = field(init=False)
    queues: tuple[QueueSpec, ...] = field(init=False)

    def __post_init__(self) -> None:
        direct = dict.fromkeys((COMMANDS, WORK, TIMERS, TIMERS_WAIT), "direct")
        retries = {retry_name(delay_s): "fanout" for delay_s in self.retry_delays}
        exchanges = {**direct, EVENTS: "topic", EVENTS_LOG: "fanout", DEAD: "fanout", **retries}
        queues = (*_work_queues(), _dead_queue(), *map(_retry_queue, self.retry_delays), self._log_queue())
        object.__setattr__(self, "exchanges", {self.prefix + name: kind for name, kind in exchanges.items()})
        object.__setattr__(self, "queues", tuple(queue.prefixed(self.prefix) for queue in queues))

    def retry_queues(self) -> list[str]:
        return [self.prefix + retry_name(delay_s) for delay_s in self.retry_delays]

    def retry_exchange(self, after_s: float) -> str:
        """The retry exchange with the shortest delay of at least `after_s`, else the one with the longest."""
        long_enough = [delay_s for delay_s in self.retry_delays if delay_s >= after_s]
        return retry_name(min(long_enough, default=max(self.retry_delays)))

    def _log_queue(self) -> QueueSpec:
        arguments = {
            "x-queue-type": "stream",
            "x-max-age": f"{max(1, round(self.log_age_s))}s",
            "x-max-length-bytes": self.log_bytes,
            "x-stream-max-segment-size-bytes": self.log_segment,
        }
        return QueueSpec(LOG_QUEUE, arguments, ((EVENTS, "#"), (EVENTS_LOG, "")))


def _work_queues() -> list[QueueSpec]:
    return [
        QueueSpec(route.queue, _arguments(queue), tuple((exchange, route.key) for exchange in route.exchanges))
        for queue, route in ROUTES.items()
    ]


def _arguments(queue: WorkQueue) -> dict[str, Any]:
    exchange = ROUTES[queue].exchange
    if exchange == TIMERS:
        return {"x-queue-type": "classic", "x-single-active-consumer": True}
    quorum = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
    if exchange == DEAD:
        return {**quorum, **_DEAD_LIMITS}  # holds a copy: the dead letter itself stays in image.dead.v2
    return {**quorum, "x-dead-letter-exchange": DEAD, **_AT_LEAST_ONCE}


def _dead_queue() -> QueueSpec:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": DEAD_DELIVERY_LIMIT, **_DEAD_LIMITS}
    return QueueSpec(DEAD_QUEUE, arguments, ((DEAD, ""), (WORK, KEPT)))


def _retry_queue(delay_s: float) -> QueueSpec:
    # without x-dead-letter-routing-key the message keeps its routing key, which leads back to its queue
    arguments = {
        "x-queue-type": "quorum",
        "x-message-ttl": milliseconds(delay_s),
        "x-dead-letter-exchange": WORK,
        **_AT_LEAST_ONCE,
    }
    return QueueSpec(retry_name(delay_s), arguments, ((retry_name(delay_s), ""),))
