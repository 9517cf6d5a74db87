"""The handlers that run in this process for one work queue."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field

from common.bus.port import DeadLetter
from common.bus.rabbitmq.codec import Delivery
from common.domain.errors import Invalid
from common.messages import Command, Tick


@dataclass(slots=True, eq=False)
class HandlerTask:
    """A handler, running or about to run, and all deliveries that its outcome settles.

    The first delivery is published again on a retry.
    """

    key: str
    message: Command | Tick | DeadLetter | Invalid
    deliveries: list[Delivery]
    # copied from the callback, so that a trace continues in the task
    context: contextvars.Context
    task: asyncio.Task[None] | None = None
    is_acknowledged: bool = False

    @property
    def is_stale(self) -> bool:
        """No delivery can be acknowledged any more: the broker delivers the message again."""
        return all(delivery.is_stale for delivery in self.deliveries)

    async def acknowledge(self) -> None:
        """Acknowledge all deliveries, unless that was done before."""
        if not self.is_acknowledged:
            self.is_acknowledged = True
            for delivery in self.deliveries:
                await delivery.ack()

    async def requeue(self) -> None:
        """Return all deliveries to the queue, unless they were acknowledged."""
        if not self.is_acknowledged:
            for delivery in self.deliveries:
                await delivery.requeue()

    def is_for(self, delivery: Delivery) -> bool:
        """Whether it is the same message, delivered again; every dispatch of an image has a `time` of its own."""
        return self.deliveries[0].body == delivery.body


@dataclass(slots=True)
class RunningHandlers:
    """The running handlers by deduplication key; `on_end` is called when one has ended and its key is free."""

    by_key: dict[str, HandlerTask] = field(default_factory=dict)
    on_end: set[Callable[[], None]] = field(default_factory=set)

    def end(self, handler_task: HandlerTask) -> None:
        if self.by_key.get(handler_task.key) is handler_task:
            del self.by_key[handler_task.key]

    def start_waiting(self) -> None:
        """Start what has waited for the end of a handler."""
        for start_pending in list(self.on_end):
            start_pending()
