"""The message bus port. The docstrings are the contract that `tests/contract/bus/` checks.

send(command) ──▶ work queue ──▶ ONE consumer's handler ──▶ done │ retry │ reject
                      ▲                                             │        │
                      └─────────────── after a delay ───────────────┘    dead letters
publish(event) ──▶ event log ──▶ EVERY reader, from the cursor that it passes
              └──▶ subscribers of some event types, from now on
arm(timer) ──▶ one token for each timer waits for its interval ──▶ ONE consumer's handler
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from common.domain.errors import Invalid, Unavailable
from common.domain.pools import DEFAULT_POOL, is_pool_name
from common.messages import Command, Event, Tick


class WorkQueue(StrEnum):
    """The work queues. `DEAD` holds a copy of each dead letter.

    `image.generate` has several: `INTAKE` takes the requests of other services, which are recorded first; `GENERATE`
    holds the commands for images on record whose turn it is. There is one `GENERATE` for each pool of generators; the
    value here is that of the pool `default`.
    """

    INTAKE = "image.generate"
    GENERATE = "image.work.default"
    CANCEL = "image.cancel"
    RECONCILE = "timer.reconcile"
    PURGE = "timer.purge"
    SWEEP = "timer.sweep"
    DEAD = "image.dead"

    @property
    def message_type(self) -> str:
        """The type of the messages of this queue."""
        return "image.generate" if self is WorkQueue.GENERATE else self.value

    def of_pool(self, pool: str) -> str:
        """The name of this queue of this pool; only `GENERATE` differs between pools."""
        return _OF_POOL + pool if self is WorkQueue.GENERATE else self.value


_OF_POOL: Final = "image.work."


def parse_queue_name(name: str) -> tuple[WorkQueue, str]:
    """The queue and the pool that have this name.

    Raises:
        Invalid: no work queue has it.
    """
    if name in set(WorkQueue):
        return WorkQueue(name), DEFAULT_POOL
    if name.startswith(_OF_POOL) and is_pool_name(pool := name.removeprefix(_OF_POOL)):
        return WorkQueue.GENERATE, pool
    raise Invalid(f"{name!r} is not a work queue", code="wrong_queue")


@dataclass(frozen=True, slots=True)
class Done:
    """The message is handled; the bus deletes it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Deliver the message again after about `after_s` seconds, to any consumer. It uses no concurrency meanwhile.

    The message may come sooner if `after_s` is longer than every retry queue: then return `Retry` again.
    """

    after_s: float


@dataclass(frozen=True, slots=True)
class Reject:
    """The message can never be handled; it becomes a dead letter with this reason."""

    reason: str


Outcome = Done | Retry | Reject


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that failed for good: its original bytes and the reason. `redrive` and `drop` take its `id`.

    Of a body that is larger than any message may be, only the first bytes are kept.
    """

    id: str
    body: bytes
    reason: str
    queue: str
    died_at: datetime | None


Handler = Callable[[Command | Tick | DeadLetter], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Logged:
    """An event of the log. The cursor is opaque; it contains the position and the id of the event."""

    cursor: str
    event: Event


@dataclass(frozen=True, slots=True)
class After:
    """Read the events that follow this cursor, each once."""

    cursor: str


@dataclass(frozen=True, slots=True)
class Since:
    """Read from about this moment, or from the start of the log. Some older events may come first."""

    moment: datetime


Start = After | Since


class Consumer(Protocol):
    """A running consumer of one work queue."""

    @property
    def in_flight(self) -> int:
        """How many handlers are running."""

    async def pause(self) -> None:
        """Take no new messages; running handlers continue, and waiting messages stay in the queue for others."""

    async def resume(self) -> None: ...

    async def limit(self, concurrency: int) -> None:
        """At most this many handlers start from now on; running ones continue, whatever their number."""

    async def drain(self, timeout_s: float) -> bool:
        """Take no new messages from now on and wait for the running handlers; True if all ended in time."""


class Bus(Protocol):
    async def send(self, command: Command, *, delay_s: float = 0, pool: str = DEFAULT_POOL) -> None:
        """Publish a command to its work queue; returns once the bus has stored it.

        An `image.generate` with a request goes to `INTAKE`, one that refers to a record to `GENERATE` of the pool,
        whether anybody consumes this queue or not.

        One consumer gets it, at once or after about the delay.

        Raises:
            Unavailable: the bus does not have the command.
            Unconfirmed: the outcome is unknown. The command may be delivered, and twice if it is sent again.
        """

    async def publish(self, event: Event) -> None:
        """Publish an event to all readers and subscribers; returns once the log has stored it. Raises as `send`.

        A queue of another service that refuses the event does not matter, apart from `warning`.
        """

    async def publish_several(self, events: Sequence[Event]) -> list[Unavailable | None]:
        """`publish` for each of events of one type, with one wait for all: what it raises for each, or None.

        Only small batches: this process encodes them all before it does anything else.
        """

    async def tick(self, tick: Tick) -> None:
        """Run a timer now, in addition to its token; `tick.time` is delivered unchanged. Raises as `send`."""

    async def arm(self, timer: str, *, interval_s: float) -> bool:
        """Let the timer's token wait for its interval; returns False and changes nothing if a token waits already.

        `timer` is the type of its tick (`timer.purge`). However many processes arm it, one token fires, one interval
        later. The `time` of its tick is when it fired, by the clock of the bus, truncated to the second; the clock of
        the process that armed it is not used. Raises as `send`.
        """

    def consume(
        self, queue: WorkQueue, handler: Handler, *, concurrency: int, pool: str = DEFAULT_POOL
    ) -> AbstractAsyncContextManager[Consumer]:
        """Pass each message of the queue to one handler in one process; at most `concurrency` run at once here.

        Of `GENERATE` it takes the messages of this pool only.

        Delivery is at least once: if a process dies, or its acknowledgement is lost, the message is delivered again,
        so a handler must be idempotent. If a message arrives while this process still handles the same image, no
        second handler starts beside it: a redelivery of the same message shares the outcome of the running one, and
        another message is handled after it. Of several that wait for this, the first stands for all.

        A handler that raises counts as `Retry`, and the 20th time in a row as `Reject`. If the context ends, running
        handlers are cancelled and their messages return to the queue. A message that is too large, does not parse, or
        came by a way that its sender may not use is rejected without a call of the handler, whatever is odd about it.
        `Reject` of a dead letter has no further effect: the dead letter is kept.

        A handler may call `handling.acknowledge_early`: the bus deletes the message, the next one may start, and the
        handler continues; `drain` and `in_flight` still count it.

        Messages are handled in the order of their arrival, except for retries and if several consumers share the queue.
        """

    def subscribe(self, types: frozenset[str], on_event: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        """Call `on_event` with each event of these types that is published from now on.

        There is no guarantee: events published while the connection is down may be late, or lost if it lasts long.
        """

    def read(self, start: Start) -> AsyncGenerator[Logged]:
        """Read the log in order and wait at its end for more; close the generator to stop.

        It reconnects by itself when the connection is lost.

        Raises:
            CursorGone: the log does not hold the event of the cursor, or no longer holds the event read last: the log
                was trimmed because the reader was too slow or the connection was down.
        """

    async def waiting(self, queue: WorkQueue, *, pool: str = DEFAULT_POOL) -> int:
        """How many messages wait in the queue or for a retry; those in flight may be counted.

        Those that wait for a retry to another pool may be counted too. Raises Unavailable.
        """

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead letters; they are not removed. Their number is limited: the oldest are deleted then.

        Raises Unavailable.
        """

    async def count_dead_letters(self) -> int:
        """The number of dead letters; while another caller lists them, some may be missing. Raises Unavailable."""

    async def redrive(self, letter_id: str) -> bool:
        """Move a dead letter back to its original queue; False if no dead letter has this id.

        Raises:
            Invalid: its original queue is not one of the work queues.
        """

    async def drop(self, letter_id: str) -> bool:
        """Delete a dead letter; False if no dead letter has this id."""

    @property
    def unready_reason(self) -> str:
        """Why the bus cannot be used at the moment; empty when it is ready."""

    @property
    def warning(self) -> str:
        """What an operator should correct although the bus is ready; empty if there is nothing."""
