"""What a message bus does for Darkroom. The docstrings are the contract that `tests/contract/bus/` runs.

send(command) ──▶ work queue ──▶ ONE worker's handler ──▶ done │ retry │ reject
                      ▲                                           │        │
                      └────────────── after a delay ──────────────┘    dead letters
publish(event) ──▶ event log ──▶ EVERY reader, from the cursor it names
              └──▶ listeners of a few types, from now on
arm(timer) ──▶ one token for each timer waits its interval ──▶ ONE worker's handler
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from common.messages import Command, Event, Tick


class WorkQueue(StrEnum):
    """Where work waits; the value is the type of its messages. `DEAD` holds a copy of each dead letter."""

    GENERATE = "image.generate"
    CANCEL = "image.cancel"
    RECONCILE = "timer.reconcile"
    PURGE = "timer.purge"
    SWEEP = "timer.sweep"
    DEAD = "image.dead"


@dataclass(frozen=True, slots=True)
class Done:
    """Handled for good: the bus forgets the message."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Deliver it again after about `after_s` seconds, to anyone. No worker's slot is held meanwhile.

    It may come sooner where `after_s` is longer than every retry queue: then answer `Retry` again.
    """

    after_s: float


@dataclass(frozen=True, slots=True)
class Reject:
    """It can never be handled: to the dead letters, with the reason."""

    reason: str


Outcome = Done | Retry | Reject


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that ended badly: its bytes as they came, and why. `id` names it for `redrive` and `drop`."""

    id: str
    body: bytes
    reason: str
    queue: str
    died_at: datetime | None


Handler = Callable[[Command | Tick | DeadLetter], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Logged:
    """An event as it stands in the log. The cursor is opaque; it holds the place and the event's id."""

    cursor: str
    event: Event


@dataclass(frozen=True, slots=True)
class After:
    """Read what follows this cursor, and nothing twice."""

    cursor: str


@dataclass(frozen=True, slots=True)
class Since:
    """Read from about this moment on, or from where the log begins; some older events may come first."""

    moment: datetime


Start = After | Since


class Consumer(Protocol):
    """A consumer at work."""

    @property
    def in_flight(self) -> int:
        """Handlers running now."""

    async def pause(self) -> None:
        """Take nothing new; what is in hand goes on, and what waits stays in the queue for others."""

    async def resume(self) -> None: ...

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new for good and wait for what is in hand; True if all of it ended in time."""


class Bus(Protocol):
    async def send(self, command: Command, *, delay_s: float = 0) -> None:
        """Order work; returns once the bus has it for good. It reaches one worker, now or after about the delay.

        Raises:
            Unavailable: the bus does not have it.
            Unconfirmed: the outcome is unknown; it may arrive, and may arrive again when it is sent again.
        """

    async def publish(self, event: Event) -> None:
        """Tell everyone; returns once the event is in the log for good. Raises as `send` does."""

    async def tick(self, tick: Tick) -> None:
        """Fire a timer now, beside its token; its `time` comes as it is. Raises as `send` does."""

    async def arm(self, timer: str, *, interval_s: float) -> bool:
        """Have the timer's token wait its interval; False if one waits already, which is left as it is.

        `timer` is the type of its tick (`timer.purge`). However many arm it, one token fires an interval later. The
        `time` of its tick is when it fired, by the bus's own clock, cut to the second: not that of whoever armed it.
        Raises as `send` does.
        """

    def consume(self, queue: WorkQueue, handler: Handler, *, concurrency: int) -> AbstractAsyncContextManager[Consumer]:
        """Hand each message of the queue to one handler of one process, at most `concurrency` at once here.

        A handler must bear being run twice: a message whose worker dies, or whose outcome is lost, comes again. One
        that arrives while this process still handles the same `subject` is not handled twice at once: it shares the
        outcome of the handler that runs. A handler that raises counts as `Retry`, and when it has for the 20th time in
        a row as `Reject`; one cancelled, because the context is left, gives its message to another worker. A message
        that does not parse is rejected here. A `Reject` of a dead letter changes nothing more: the letter is kept.

        Messages are handled in the order they came, as far as retries and several workers allow.
        """

    def subscribe(self, types: frozenset[str], on_event: Callable[[Event], None]) -> AbstractAsyncContextManager[None]:
        """Call `on_event` with each event of these types published from now on. What is published while the link is
        down may come late or, after long, not at all: a hint, not a record."""

    def read(self, start: Start) -> AsyncGenerator[Logged]:
        """Read the log in order, and wait at its end for more; close the generator to stop. Heals a lost link.

        Raises:
            CursorGone: the log does not hold the event that the cursor names; or, later, the one last read: it was
                trimmed away behind a reader too slow, or while the link was down.
        """

    async def waiting(self, queue: WorkQueue) -> int:
        """How many messages wait in the queue or for their retry; those in hand may count. Raises Unavailable."""

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead letters; they stay where they are. Raises Unavailable."""

    async def redrive(self, letter_id: str) -> bool:
        """Put a dead letter back into the queue it came from; False if there is none of this id."""

    async def drop(self, letter_id: str) -> bool:
        """Forget a dead letter; False if there is none of this id."""

    @property
    def unready_reason(self) -> str:
        """Why the bus is of no use at the moment; empty when it is ready."""
